// Finds out what Patroni's configuration needs (environment, volume, binaries, etcd's members from discoverd) and
// writes it. Runs to its end before Patroni starts; makes the service first, so that nobody else makes it wrongly.
import { access, chmod, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { DiscoverdClient } from '../../discoverd/client.ts'
import { sleep } from '../../pkg/clock/clock.ts'
import { isUuid, uuid } from '../../pkg/ids/ids.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { derivePassword } from './client.ts'
import { type NodeFacts, renderConfig } from './config.core.ts'
import { errors } from './errors.ts'
import { areOrigins } from './origins.core.ts'
import { defaultService, patroniPort, postgresPort } from './types.ts'

export const discoverdRetryMs = 500
const etcdPort = 2379

export type Env = Readonly<Record<string, string | undefined>>

export type ConfigPaths = {
  readonly volumeDir: string
  /** Holds one directory for each PostgreSQL version installed. */
  readonly installDir: string
  readonly socketDir: string
  /** Command line of the callback, without Patroni's three arguments. */
  readonly callback: string
}

export const imagePaths: ConfigPaths = {
  volumeDir: '/data',
  installDir: '/usr/lib/postgresql',
  socketDir: '/tmp',
  callback: '/usr/bin/node /bin/flynn-postgres.mjs callback',
}

export function required(env: Env, name: string): string {
  const value = env[name]
  if (value === undefined || value === '') throw errors.MISSING_ENV({ name })
  return value
}

export function serviceName(env: Env): string {
  return env['FLYNN_POSTGRES'] || defaultService
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw e
  }
}

async function writeWhole(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`
  await writeFile(temporary, text, { mode: 0o600, flush: true })
  await chmod(temporary, 0o600)
  await rename(temporary, path)
}

/** The node's name: a uuid kept on the volume (contract system-apps.md 7.1). */
export async function nodeName(volumeDir: string): Promise<string> {
  const path = join(volumeDir, 'instance_id')
  const known = await readText(path)
  if (known !== undefined && isUuid(known)) return known
  const fresh = uuid()
  await writeWhole(path, `${fresh}\n`)
  return fresh
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

/** The directory of the version that the data is of; of the newest one when there is no data yet. */
export async function findInstallation(installDir: string, dataDir: string): Promise<string> {
  const ofData = await readText(join(dataDir, 'PG_VERSION'))
  const installed = (await readdir(installDir).catch(() => [])).filter(v => /^\d+$/.test(v))
  const version = ofData ?? installed.sort((a, b) => Number(b) - Number(a))[0]
  if (version === undefined || !installed.includes(version))
    throw errors.NO_BINARIES({ version: version ?? '', dir: installDir })
  return join(installDir, version)
}

/**
 * `ip:port` of etcd's members: one beside each consensus peer of discoverd. Waits for as long as discoverd is away,
 * because nothing can start without it; says so once a minute.
 */
export async function findEtcd(discoverd: DiscoverdClient, service: string, log: Logger): Promise<string[]> {
  for (let failures = 0; ; failures++) {
    try {
      await discoverd.maybeAddService(service, { leader_type: 'manual' })
      const peers = await discoverd.raftPeers()
      if (peers.length > 0) return peers.map(peer => `${peer.slice(0, peer.lastIndexOf(':'))}:${etcdPort}`)
    } catch (err) {
      if (failures % Math.round(60_000 / discoverdRetryMs) === 0)
        log.warn({ err }, 'discoverd does not answer yet')
    }
    await sleep(discoverdRetryMs)
  }
}

/**
 * The member on this host first: Patroni keeps to the first, whose death is no news to a node that dies with it. `servers` is
 * the environment's DISCOVERD.
 */
function nearFirst(etcdHosts: readonly string[], servers: string): string[] {
  const near = URL.canParse(servers) ? `${new URL(servers).hostname}:${etcdPort}` : ''
  return etcdHosts.toSorted((a, b) => Number(b === near) - Number(a === near))
}

/**
 * Removes the record of replication origins when it is not what a server has written: zfs-fuse forgets some of it when the
 * power goes within two seconds of a checkpoint, and no server starts with it. Without one none is known; a subscription
 * begins where its publisher says.
 */
export async function dropTornOrigins(volumeDir: string, log: Logger): Promise<void> {
  const path = join(volumeDir, 'db', 'pg_logical', 'replorigin_checkpoint')
  const file = await readFile(path).catch((e: NodeJS.ErrnoException) => {
    if (e.code === 'ENOENT') return undefined
    throw e
  })
  if (file === undefined || areOrigins(file)) return
  await rm(path)
  log.warn({ path, bytes: file.length }, 'record of replication origins is not whole, going on without it')
}

/** Everything that the configuration is made of. `etcdHosts` come from `findEtcd`. */
export async function nodeFacts(
  env: Env,
  paths: ConfigPaths,
  etcdHosts: readonly string[],
): Promise<NodeFacts> {
  const password = required(env, 'PGPASSWORD')
  const dataDir = join(paths.volumeDir, 'db')
  const installation = await findInstallation(paths.installDir, dataDir)
  return {
    service: serviceName(env),
    nodeName: await nodeName(paths.volumeDir),
    address: required(env, 'EXTERNAL_IP'),
    listenAddress: env['LISTEN_IP'] || '0.0.0.0',
    postgresPort: Number(env['PORT'] || postgresPort),
    patroniPort,
    etcdHosts: nearFirst(etcdHosts, env['DISCOVERD']?.split(',')[0] ?? ''),
    superuser: env['PGUSER'] || 'flynn',
    superuserPassword: password,
    replicationPassword: derivePassword(password, 'replication'),
    rewindPassword: derivePassword(password, 'rewind'),
    restPassword: derivePassword(password, 'patroni'),
    dataDir,
    binDir: join(installation, 'bin'),
    socketDir: paths.socketDir,
    callback: paths.callback,
    extensionWhitelist: await exists(join(installation, 'lib/plugins/pgextwlist.so')),
  }
}

/** Writes the configuration, readable by its owner only: it holds passwords. */
export async function writeConfig(path: string, facts: NodeFacts): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeWhole(path, `${JSON.stringify(renderConfig(facts), undefined, 2)}\n`)
}
