// Patroni's configuration as a pure function of what the job knows. Written as JSON, which is YAML too. Every choice
// that differs from a default says why. Called by `config.ts`, which finds the facts out.
import { leaderTtlSeconds, patroniPrefix } from './types.ts'

/** What one database node is told at its start. */
export type NodeFacts = {
  /** discoverd service and Patroni scope. */
  readonly service: string
  /** Stays with the volume, so a node that comes back is known as itself. */
  readonly nodeName: string
  /** This job's address, and where it listens. */
  readonly address: string
  readonly listenAddress: string
  readonly postgresPort: number
  readonly patroniPort: number
  /** `ip:port` of every etcd member. */
  readonly etcdHosts: readonly string[]
  readonly superuser: string
  readonly superuserPassword: string
  readonly replicationPassword: string
  readonly rewindPassword: string
  readonly restPassword: string
  readonly dataDir: string
  readonly binDir: string
  readonly socketDir: string
  /** Argv prefix that Patroni calls with action, role and scope. */
  readonly callback: string
  readonly extensionWhitelist: boolean
}

/**
 * Seconds. The loop is how soon a killed postmaster is noticed. loop + 2 * retry must not exceed the leader key's life, and a
 * retry of 1 s was measured to block failover for good (design evidence state.md 2).
 */
export const loopWaitSeconds = 1
export const retryTimeoutSeconds = 4

/** Connections in all; a slot costs about 17 kB of shared memory when used. The original's number. */
export const connectionsMax = 400

/** What a database's owner may install (contract system-apps.md 8); a name without files is an error when tried. */
export const extensions = [
  'btree_gin',
  'btree_gist',
  'chkpass',
  'citext',
  'cube',
  'dblink',
  'dict_int',
  'earthdistance',
  'fuzzystrmatch',
  'hstore',
  'intarray',
  'isn',
  'ltree',
  'pg_prewarm',
  'pg_stat_statements',
  'pg_trgm',
  'pgcrypto',
  'pgrouting',
  'pgrowlocks',
  'pgstattuple',
  'plpgsql',
  'plv8',
  'postgis',
  'postgis_topology',
  'postgres_fdw',
  'tablefunc',
  'timescaledb',
  'unaccent',
  'uuid-ossp',
] as const

/** Kept in etcd from the first start on: the same for every node, changed later only through Patroni's API. */
function clusterSettings() {
  return {
    ttl: leaderTtlSeconds,
    loop_wait: loopWaitSeconds,
    retry_timeout: retryTimeoutSeconds,
    maximum_lag_on_failover: 1_048_576,
    // A crashed primary hands over at once when somebody can take over; alone it simply starts again.
    primary_start_timeout: 0,
    master_start_timeout: 0,
    // An acknowledged commit is on two nodes whenever there are two. Not strict: one node alone must serve.
    synchronous_mode: true,
    // The primary goes on through an outage of etcd as long as it reaches every other node.
    failsafe_mode: true,
    postgresql: {
      use_pg_rewind: true,
      use_slots: true,
      parameters: {
        max_connections: connectionsMax,
        max_wal_senders: 10,
        max_replication_slots: 10,
        wal_level: 'replica',
        hot_standby: 'on',
        wal_keep_size: '256MB',
        wal_receiver_timeout: '3s',
        wal_sender_timeout: '3s',
        wal_receiver_status_interval: '1s',
      },
    },
  }
}

function serverParameters(facts: NodeFacts): Record<string, string | number> {
  return {
    unix_socket_directories: facts.socketDir,
    password_encryption: 'scram-sha-256',
    timezone: 'UTC',
    log_timezone: 'UTC',
    log_line_prefix: '%m [%p] %u@%d ',
    log_checkpoints: 'off',
    // The original's number (contract system-apps.md 8). All of it is in memory soon, and the page cache has the rest.
    shared_buffers: '32MB',
    max_wal_size: '512MB',
    min_wal_size: '80MB',
    // Volumes are copy-on-write: zeroing and recycling WAL files costs writes and gains nothing.
    wal_init_zero: 'off',
    wal_recycle: 'off',
    // Compiling queries takes memory in every backend, and pays only for long analytic ones.
    jit: 'off',
    ...(facts.extensionWhitelist
      ? { local_preload_libraries: 'pgextwlist', 'extwlist.extensions': extensions.join(',') }
      : {}),
  }
}

/** Patroni's whole configuration for one node. */
export function renderConfig(facts: NodeFacts): Readonly<Record<string, unknown>> {
  const { address, listenAddress } = facts
  return {
    scope: facts.service,
    namespace: patroniPrefix,
    name: facts.nodeName,
    // What the loop says each second, and each retry of an absent etcd, would push everything else out of the log
    // buffers. Changes of role are logged by the callback.
    log: {
      level: 'INFO',
      loggers: { 'patroni.__main__': 'WARNING', 'patroni.ha': 'WARNING', urllib3: 'ERROR' },
    },
    restapi: {
      listen: `${listenAddress}:${facts.patroniPort}`,
      connect_address: `${address}:${facts.patroniPort}`,
      authentication: { username: 'patroni', password: facts.restPassword },
    },
    etcd3: { hosts: facts.etcdHosts },
    watchdog: { mode: 'off' },
    bootstrap: {
      dcs: clusterSettings(),
      // A promotion copies the last segment and syncs it: 16 MB of it took 1 to 4 s of a failover on zfs-fuse.
      initdb: [{ encoding: 'UTF8' }, { locale: 'C.UTF-8' }, 'data-checksums', { 'wal-segsize': '4' }],
    },
    postgresql: {
      listen: `${listenAddress}:${facts.postgresPort}`,
      connect_address: `${address}:${facts.postgresPort}`,
      use_unix_socket: true,
      use_unix_socket_repl: true,
      // A rewind that was cut short leaves files of two histories, which no later one can mend. The primary has every
      // acknowledged commit, so they are copied from it.
      remove_data_directory_on_rewind_failure: true,
      data_dir: facts.dataDir,
      bin_dir: facts.binDir,
      pgpass: `${facts.socketDir}/.pgpass-${facts.nodeName}`,
      authentication: {
        superuser: { username: facts.superuser, password: facts.superuserPassword },
        replication: { username: 'flynn_replication', password: facts.replicationPassword },
        rewind: { username: 'flynn_rewind', password: facts.rewindPassword },
      },
      // "md5" takes SCRAM secrets by SCRAM and, unlike "scram-sha-256", also the md5 secrets that roles in an old
      // cluster's dump have; new secrets are SCRAM (password_encryption).
      pg_hba: [
        'local all all scram-sha-256',
        'local replication flynn_replication scram-sha-256',
        'host replication flynn_replication all scram-sha-256',
        'host all all all md5',
      ],
      parameters: serverParameters(facts),
      callbacks: { on_start: facts.callback, on_restart: facts.callback, on_role_change: facts.callback },
      basebackup: { checkpoint: 'fast' },
    },
  }
}
