// The table of endpoints, what is served, and docs/compatibility.md say the same.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { silentLogger } from '../../pkg/log/log.ts'
import { authFromEnv } from './auth.ts'
import type { Context } from './context.ts'
import { endpoints } from './endpoints.ts'
import { controllerServer } from './server.ts'

test('every endpoint of the table is served', async () => {
  // No request is made, so nothing of the rest is touched. A route outside of the table stops the server's start.
  const ctx = {
    log: silentLogger(),
    config: { auth: authFromEnv({ AUTH_KEY: 'k' }), caCert: '', version: '' },
    load: { streams: 0, attached: 0, requests: 0 },
    stopping: new AbortController().signal,
  } as unknown as Context
  const server = controllerServer(ctx)
  await server.ready()
  const missing = endpoints.filter(e => !server.hasRoute({ method: e.method, url: e.path }))
  assert.deepEqual(missing, [])
  await server.close()
})

test('docs/compatibility.md lists every endpoint and no other', async () => {
  const page = await readFile(new URL('../../docs/compatibility.md', import.meta.url), 'utf8')
  const section = /^## Controller API$(.*?)^### Behaviour$/ms.exec(page)?.[1] ?? ''
  const rows = section.split('\n').filter(line => line.startsWith('| `'))
  const listed = rows.flatMap(row => [...row.matchAll(/`((?:GET|POST|PUT|DELETE) [^`]+)`/g)].map(m => m[1]))
  assert.deepEqual(listed.toSorted(), endpoints.map(e => `${e.method} ${e.path}`).toSorted())
})
