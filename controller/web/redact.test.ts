import assert from 'node:assert/strict'
import { test } from 'node:test'
import { auditItemsMax, auditTextBytesMax, redact } from './redact.core.ts'

test('secrets are replaced, names and the rest stay', () => {
  const body = {
    app_id: 'a',
    env: { PASSWORD: 'hunter2', PORT: '80' },
    certificate: { cert: 'c', key: 'k' },
    tls_key: 'k',
    processes: { web: { args: ['x'], env: { A: 'b' } } },
    config: { url: 'syslog://user:word@x' },
  }
  const text = JSON.stringify(redact(body))
  for (const secret of ['hunter2', '"80"', '"k"', '"b"', 'word@x']) assert.ok(!text.includes(secret), secret)
  for (const name of ['PASSWORD', 'processes', '"x"', 'app_id']) assert.ok(text.includes(name), name)
})

test('what is long, deep or wide is cut', () => {
  const long = redact({ name: 'x'.repeat(10_000) }) as { name: string }
  assert.equal(long.name.length, auditTextBytesMax + 1)
  const wide = redact({ list: Array.from({ length: 1_000 }, (_, i) => i) }) as { list: unknown[] }
  assert.equal(wide.list.length, auditItemsMax)
  let deep: unknown = 'end'
  for (let i = 0; i < 1_000; i++) deep = { deep }
  assert.ok(JSON.stringify(redact(deep)).length < 200)
})
