// The database as its job runs it: Patroni on a real etcd, killed, powered off, cut from etcd; and the provider API on
// top. Needs root, for the process namespace.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import pg from 'pg'
import { postgresApi } from '../../appliance/postgresql/api.ts'
import { keepLeader } from '../../appliance/postgresql/leader.ts'
import { leaderTtlSeconds, type Resource } from '../../appliance/postgresql/types.ts'
import type { Registration } from '../../discoverd/client.ts'
import { poll, sleep } from '../../pkg/clock/clock.ts'
import type { Server } from '../../pkg/httpd/httpd.ts'
import { silentLogger } from '../../pkg/log/log.ts'
import { createPool, pgOptionsFromEnv } from '../../pkg/pg/pg.ts'
import { patroniUrl, startPatroni, type TestPatroni } from '../fixtures/patroni.ts'

let node: TestPatroni
let pool: pg.Pool
let api: Server
let registration: Registration

before(async () => {
  node = await startPatroni()
  await node.writable()
  // As the host does for an instance whose check passes.
  const addr = `${node.address}:5432`
  registration = await node.discoverd.register({ service: 'postgres', addr })
  const env = { ...node.env, PGHOST: node.address, PGDATABASE: 'postgres' }
  pool = createPool(pgOptionsFromEnv(env, 'test'), silentLogger())
  api = postgresApi({ pool, service: 'postgres', log: silentLogger() })
})

after(async () => {
  await api?.close()
  await registration?.close()
  await pool?.end()
  await node?.stop()
})

const countOf = async (table: string) =>
  Number((await node.query<{ n: string }>(`SELECT count(*) AS n FROM ${table}`))[0]?.n)

async function provision(): Promise<Resource> {
  const res = await api.inject({ method: 'POST', url: '/databases' })
  assert.equal(res.statusCode, 200, res.body)
  return res.json<Resource>()
}

/** A connection with what the app is given; only the name of the host cannot be resolved here. */
async function connect(resource: Resource, database = resource.env['PGDATABASE']): Promise<pg.Client> {
  const { PGUSER: user, PGPASSWORD: password } = resource.env
  const client = new pg.Client({ host: node.address, port: 5432, user, password, database })
  client.on('error', () => undefined)
  await client.connect()
  return client
}

function drop(id: string) {
  return api.inject({ method: 'DELETE', url: `/databases?id=${encodeURIComponent(id)}` })
}

function leaderNamed(): Promise<boolean> {
  return poll(async () => (await node.discoverd.leader('postgres'))?.addr === `${node.address}:5432`, {
    timeoutMs: 30_000,
    what: 'discoverd to name the primary',
  })
}

test('discoverd names the primary as the leader', async () => {
  await leaderNamed()
})

test('a leader that discoverd has forgotten is named again by the provider', async t => {
  const stop = new AbortController()
  t.after(() => stop.abort())
  await node.discoverd.removeService('postgres')
  await poll(async () => (await node.discoverd.leader('postgres')) === undefined, {
    timeoutMs: 20_000,
    what: 'the leader to be forgotten',
  })
  const watching = keepLeader(node.discoverd, 'postgres', silentLogger(), stop.signal, 500)
  await leaderNamed()
  stop.abort()
  await watching
})

test('an app gets a database of its own, and may make tables in it', async () => {
  const resource = await provision()
  assert.match(resource.id, /^\/databases\/[0-9a-f]{32}:[0-9a-f]{32}$/)
  const { PGUSER, PGPASSWORD, PGDATABASE, PGHOST } = resource.env
  assert.equal(PGHOST, 'leader.postgres.discoverd')
  assert.equal(
    resource.env['DATABASE_URL'],
    `postgres://${PGUSER}:${PGPASSWORD}@leader.postgres.discoverd:5432/${PGDATABASE}`,
  )
  const client = await connect(resource)
  await client.query('CREATE TABLE t (n int); INSERT INTO t VALUES (1)')
  await client.end()
})

test('an app may not connect to the database of another', async () => {
  const [one, other] = [await provision(), await provision()]
  await assert.rejects(connect(one, other.env['PGDATABASE']), { code: '42501' })
})

test('an owner may install the listed extensions and no others', async () => {
  const client = await connect(await provision())
  await client.query('CREATE EXTENSION "uuid-ossp"; CREATE EXTENSION pg_stat_statements')
  await assert.rejects(client.query('CREATE EXTENSION file_fdw'), { code: '42501' })
  await client.end()
})

test('removing a database ends its connections and leaves nothing behind', async () => {
  const resource = await provision()
  const client = await connect(resource)
  assert.equal((await drop(resource.id)).statusCode, 200)
  await assert.rejects(client.query('SELECT 1'))
  const { PGDATABASE, PGUSER } = resource.env
  const left = await node.query(
    `SELECT 1 FROM pg_database WHERE datname = '${PGDATABASE}' UNION ALL SELECT 1 FROM pg_roles WHERE rolname = '${PGUSER}'`,
  )
  assert.deepEqual(left, [])
  assert.equal((await drop(resource.id)).statusCode, 200, 'a repeated call succeeds')
})

test('an id that is not of our making is refused', async () => {
  for (const id of ['', '/databases/flynn:postgres', `/databases/x";DROP DATABASE postgres;--:y`]) {
    const res = await drop(id)
    assert.equal(res.statusCode, 400)
    assert.deepEqual(res.json(), {
      code: 'validation_error',
      message: 'id is invalid',
      detail: { field: 'id' },
      retry: false,
    })
  }
})

test('a request to change Patroni without its password is refused', async () => {
  const res = await fetch(`${patroniUrl(node)}/config`, { method: 'PATCH', body: '{"ttl":30}' })
  assert.equal(res.status, 401)
})

test('PostgreSQL ends with Patroni', async () => {
  await node.killPatroni()
  await poll(
    () =>
      node.query('SELECT 1').then(
        () => false,
        () => true,
      ),
    { timeoutMs: 20_000, what: 'the end' },
  )
  await node.start()
  await node.writable()
})

test('PostgreSQL comes back by itself when its first process is killed', async () => {
  await node.query('CREATE TABLE killed AS SELECT generate_series(1, 1000)')
  await node.killPostmaster()
  await node.writable()
  assert.equal(await countOf('killed'), 1000)
  await poll(async () => (await api.inject('/ping')).statusCode === 200, { timeoutMs: 20_000, what: 'ping' })
})

test('a server that was told to end comes back, though a client stays', async t => {
  const held = await connect(await provision())
  t.after(() => held.end().catch(() => undefined))
  const ended = new Promise(resolve => held.once('end', resolve))
  await node.killPostmaster('SIGTERM')
  await ended
  await node.writable()
})

test('acknowledged rows are there after a power cut', async () => {
  await node.query('CREATE TABLE lost (n int)')
  let acknowledged = 0
  const writer = (async () => {
    for (;;) {
      await node.query(`INSERT INTO lost VALUES (${acknowledged})`)
      acknowledged++
    }
  })().catch(() => undefined)
  await poll(() => acknowledged > 20, { timeoutMs: 20_000, what: 'some writes' })
  await node.powerOff()
  await writer
  await node.start()
  await node.writable()
  assert.ok((await countOf('lost')) >= acknowledged)
})

test('the provider answers 503 with retry while the database is away', async () => {
  await node.powerOff()
  const res = await api.inject({ method: 'POST', url: '/databases' })
  assert.equal(res.statusCode, 503)
  assert.equal(res.json<{ retry: boolean }>().retry, true)
  await node.start()
  await node.writable()
})

test('the primary goes on while discoverd and etcd are away for longer than the leader key lives', async () => {
  await sleep(2_000)
  await node.powerOffConsensus()
  const end = Date.now() + (leaderTtlSeconds + 5) * 1000
  while (Date.now() < end) {
    await node.query('INSERT INTO probe VALUES (now())')
    await sleep(500)
  }
  await node.startConsensus()
  await poll(async () => (await fetch(`${patroniUrl(node)}/primary`)).ok, {
    timeoutMs: 30_000,
    what: 'Patroni to hold the leader key again',
  })
})

test('a node whose etcd lost everything takes up its data again', async () => {
  await node.powerOff()
  await node.powerOffConsensus()
  await node.wipeConsensus()
  await node.startConsensus()
  await node.start()
  await node.writable()
  assert.equal(await countOf('killed'), 1000)
  await leaderNamed()
})
