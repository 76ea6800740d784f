import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { run } from '../pkg/proc/run.ts'
import { makeBundle } from './bundle.ts'

const program = `
import crypto from 'node:crypto'
import http, { createServer, type Server } from 'node:http'
import * as util from 'node:util'
import { host } from './host.ts'

class Page extends http.IncomingMessage {}
const server: Server = createServer()
const digest = crypto.createHash('sha256').update('x').digest('hex').slice(0, 4)
// Each internal module that node has loaded, by its name.
const { moduleLoadList } = process as unknown as { moduleLoadList: readonly string[] }
const undici = moduleLoadList.filter(name => name.includes('undici'))
process.stdout.write(util.inspect({ listening: server.listening, page: Page.name, digest, host, undici }))
`

async function bundled(t: TestContext, files: Readonly<Record<string, string>>) {
  const folder = await mkdtemp(join(tmpdir(), 'flynn-bundle-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text)
  const { inputs } = await makeBundle(
    { name: 'program', entry: 'main.ts' },
    folder,
    join(folder, 'out'),
    'v1',
  )
  return { inputs, file: join(folder, 'out/program.mjs') }
}

test("a bundle takes from node's modules what it uses, and the rest of them is not loaded", async t => {
  const { inputs, file } = await bundled(t, { 'main.ts': program, 'host.ts': `export const host = 'h1'\n` })
  assert.deepEqual(inputs, ['host.ts', 'main.ts'])
  const { stdout } = await run([process.execPath, file], { timeoutMs: 30_000 })
  assert.equal(
    stdout,
    "{\n  listening: false,\n  page: 'Page',\n  digest: '2d71',\n  host: 'h1',\n  undici: []\n}",
  )
})
