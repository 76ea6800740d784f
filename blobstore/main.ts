// Entry of the blobstore: `flynn-blobstore [server]`. Environment, wiring and signals only; the commands `migrate` and
// `cleanup` of contract blobstore.md 4 come with the other backends.
import { describeError } from '../pkg/errors/errors.ts'
import { createLogger } from '../pkg/log/log.ts'
import { pgOptionsFromEnv, waitForPostgres } from '../pkg/pg/pg.ts'
import { blobstoreApi } from './api.ts'
import { errors } from './errors.ts'
import { fileStore } from './files.ts'
import { migrate } from './schema.ts'

const { env } = process
/** How long a start waits for the database before it fails, to be started again. */
const databaseTimeoutMs = 60_000

const usage = 'usage: flynn-blobstore [server | help]\n'

/** Refuses a configuration that would be ignored: content must not end up where nobody expects it. */
function checkBackends(): void {
  const name = env['DEFAULT_BACKEND'] || 'postgres'
  if (name !== 'postgres') throw errors.UNKNOWN_DEFAULT_BACKEND({ name })
  const configured = Object.keys(env).find(key => /^BACKEND(_[A-Z0-9]+){0,2}$/.test(key) && env[key])
  if (configured !== undefined) throw errors.UNSUPPORTED_BACKEND({ name: configured })
}

async function serve(): Promise<void> {
  const log = createLogger({ component: 'blobstore' })
  checkBackends()
  const store = fileStore(pgOptionsFromEnv(env, 'blobstore'), log)
  const stopping = new AbortController()
  await waitForPostgres(store.pool, { timeoutMs: databaseTimeoutMs, signal: stopping.signal })
  await migrate(store.pool)
  const server = blobstoreApi({ store, log })
  const close = async () => {
    stopping.abort()
    await server.close()
    await store.close()
  }
  process.once('SIGTERM', () => void close())
  process.once('SIGINT', () => void close())
  await server.listen({ host: '0.0.0.0', port: Number(env['PORT'] || 3001) })
  log.info({ port: env['PORT'] }, 'blobstore ready')
}

const command = process.argv[2] ?? 'server'
try {
  if (command === 'server') await serve()
  else if (command === 'help') process.stdout.write(usage)
  else {
    process.stderr.write(`${command} is not a flynn-blobstore command. See 'flynn-blobstore help'\n`)
    process.exitCode = 1
  }
} catch (err) {
  process.stderr.write(`${describeError(err)}\n`)
  // Connections may still be open; nothing is half done.
  process.exit(1)
}
