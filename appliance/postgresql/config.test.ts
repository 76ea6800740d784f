import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import { silentLogger } from '../../pkg/log/log.ts'
import { derivePassword } from './client.ts'
import {
  type ConfigPaths,
  dropTornOrigins,
  findInstallation,
  nodeFacts,
  nodeName,
  writeConfig,
} from './config.ts'
import { fromResourceId, scramSecret, toResource } from './databases.ts'
import { crc32c } from './origins.core.ts'

async function temporary(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'flynn-pgconfig-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  return dir
}

async function paths(t: TestContext): Promise<ConfigPaths> {
  const dir = await temporary(t)
  await mkdir(join(dir, 'pg/15'), { recursive: true })
  return { volumeDir: dir, installDir: join(dir, 'pg'), socketDir: dir, callback: 'true' }
}

const env = { EXTERNAL_IP: '100.100.1.2', PGPASSWORD: 'secret' }

test('a node keeps its name for as long as its volume lives', async t => {
  const dir = await temporary(t)
  assert.equal(await nodeName(dir), await nodeName(dir))
})

test('nodes of one cluster derive the same secrets, and no two purposes share one', () => {
  assert.equal(derivePassword('p', 'replication'), derivePassword('p', 'replication'))
  assert.notEqual(derivePassword('p', 'replication'), derivePassword('p', 'rewind'))
  assert.notEqual(derivePassword('p', 'replication'), derivePassword('q', 'replication'))
})

test('data is never opened by another version of the server', async t => {
  const { volumeDir, installDir } = await paths(t)
  await mkdir(join(installDir, '16'))
  assert.equal(await findInstallation(installDir, volumeDir), join(installDir, '16'))
  await writeFile(join(volumeDir, 'PG_VERSION'), '15\n')
  assert.equal(await findInstallation(installDir, volumeDir), join(installDir, '15'))
  await writeFile(join(volumeDir, 'PG_VERSION'), '11\n')
  await assert.rejects(findInstallation(installDir, volumeDir), e => isFlynnError(e, 'no_binaries'))
})

test('a record of origins is removed when no server has written it, and only then', async t => {
  const dir = await temporary(t)
  const path = join(dir, 'db/pg_logical/replorigin_checkpoint')
  await dropTornOrigins(dir, silentLogger())
  await mkdir(join(dir, 'db/pg_logical'), { recursive: true })
  assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283)
  const record = (origins: number) => {
    const body = Buffer.alloc(4 + 16 * origins, 7)
    body.writeUInt32LE(0x1257dade)
    const crc = Buffer.alloc(4)
    crc.writeUInt32LE(crc32c(body))
    return Buffer.concat([body, crc])
  }
  // As a server without any writes it.
  assert.equal(record(0).toString('hex'), 'deda571236b2006a')
  for (const whole of [record(0), record(2)]) {
    await writeFile(path, whole)
    await dropTornOrigins(dir, silentLogger())
    assert.deepEqual(await readFile(path), whole)
    const hole = Buffer.from(whole)
    hole.fill(0, 0, 4)
    for (const torn of [whole.subarray(0, 0), whole.subarray(0, 4), whole.subarray(0, -1), hole]) {
      await writeFile(path, torn)
      await dropTornOrigins(dir, silentLogger())
      await assert.rejects(stat(path), { code: 'ENOENT' })
    }
  }
})

test('a missing password is named', async t => {
  const p = await paths(t)
  await assert.rejects(nodeFacts({ EXTERNAL_IP: '127.0.0.1' }, p, []), e => isFlynnError(e, 'missing_env'))
})

test('the configuration is readable by its owner only', async t => {
  const p = await paths(t)
  const file = join(p.volumeDir, 'patroni.yml')
  await writeConfig(file, await nodeFacts(env, p, ['127.0.0.1:2379']))
  assert.equal((await stat(file)).mode & 0o777, 0o600)
})

test('a resource id names one user and one database, and nothing else is taken', () => {
  const id = { user: 'a'.repeat(32), database: 'b'.repeat(32) }
  assert.deepEqual(fromResourceId(toResource(id, 'p', 'postgres').id), id)
  for (const bad of [
    '',
    '/databases/flynn:postgres',
    `/databases/${id.user}`,
    `/databases/${id.user}:${id.database}"`,
  ])
    assert.throws(
      () => fromResourceId(bad),
      e => isFlynnError(e, 'validation_error'),
      bad,
    )
})

test('a stored secret is the one of RFC 7677', () => {
  // The exchange in section 3 of the RFC: user "user", password "pencil".
  const secret = scramSecret('pencil', Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64'))
  assert.match(secret, /^SCRAM-SHA-256\$4096:W22ZaJ0SNY7soEsUEjb6gQ==\$[\w+/]{43}=:[\w+/]{43}=$/)
  assert.equal(secret.split(/[$:]/)[4], 'wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=')
})
