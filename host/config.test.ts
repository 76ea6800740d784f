import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { daemonConfig, hostKey, parsePartitions, readConfigFile } from './config.ts'
import { hostPaths } from './paths.ts'
import { parseTags } from './tags.ts'

const dir = mkdtempSync('/var/tmp/host-config-')
after(() => rmSync(dir, { recursive: true }))

const config = (flags: Record<string, string | boolean>) =>
  daemonConfig({ 'external-ip': '10.0.0.1', id: 'h1', ...flags }, [], {})

test('partitions need all three names and at least two shares', () => {
  const text = 'system=cpu_shares:4096 background=cpu_shares:4096 user=cpu_shares:8192'
  assert.deepEqual(parsePartitions(text)['user'], { cpuShares: 8192 })
  for (const bad of ['', 'system=cpu_shares:4096', `${text} x=cpu_shares:1`, `${text} y`, 'system'])
    assert.throws(() => parsePartitions(bad), /partitions/)
})

test('tags are pairs, a bare name is true', () => {
  assert.deepEqual(parseTags('a=b, c,d=e=f,'), { a: 'b', c: 'true', d: 'e=f' })
})

test('a host ID with a dash is refused', async () => {
  await assert.rejects(config({ id: 'my-host' }), /host ID "my-host" is not valid/)
  assert.equal((await config({})).hostId, 'h1')
})

test('an absent or senseless job concurrency is the default', async () => {
  assert.equal((await config({})).jobConcurrencyMax, 4)
  assert.equal((await config({ 'max-job-concurrency': 'many' })).jobConcurrencyMax, 4)
  assert.equal((await config({ 'max-job-concurrency': '9' })).jobConcurrencyMax, 9)
})

test('backends that are not there are refused', async () => {
  await assert.rejects(config({ 'vol-provider': 'mock' }), /--vol-provider mock is not supported/)
})

test('a configuration file that was named must be there and be JSON', () => {
  const file = join(dir, 'host.json')
  assert.throws(() => readConfigFile({ FLYNN_HOST_CONFIG: file }), /configuration file/)
  writeFileSync(file, '{"args":["--id","x"],"env":{"A":"b"}}')
  assert.deepEqual(readConfigFile({ FLYNN_HOST_CONFIG: file }), { args: ['--id', 'x'], env: { A: 'b' } })
})

test('the host key is made once, kept for root alone, and replaced when one is given', () => {
  const paths = { ...hostPaths(), authKeyFile: join(dir, 'etc', 'auth-key') }
  const key = hostKey(paths, undefined)
  assert.match(key, /^[0-9a-f]{64}$/)
  assert.equal(statSync(paths.authKeyFile).mode & 0o777, 0o600)
  assert.equal(hostKey(paths, undefined), key)
  assert.equal(hostKey(paths, 'given'), 'given')
  assert.equal(hostKey(paths, undefined), 'given')
})
