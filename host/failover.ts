// Shortens the failover of the database: when its primary's container has ended on this host, or the host it runs on is gone
// from discoverd and takes no connection, or a standby's host hears nothing of it and etcd neither (silent-primary.ts), the
// leader key in etcd is deleted, and the standby takes over at once instead of when the key's time is over. Every daemon does
// this; etcd's transaction lets one win. Called by daemon.ts.
import { databaseScope, patroniPort, patroniPrefix } from '../appliance/postgresql/client.ts'
import type { DiscoverdClient } from '../discoverd/client.ts'
import { sleep } from '../pkg/clock/clock.ts'
import type { EtcdClient } from '../pkg/etcd/client.ts'
import type { Logger } from '../pkg/log/log.ts'
import { reach } from '../pkg/net/reach.ts'
import { type DatabaseKeys, judgeLeader, type StoredKey, type Verdict } from './failover.core.ts'
import type { JobTable } from './job/table.ts'
import { contains, parseSubnet } from './network/address.core.ts'
import { listLeases } from './network/leases.ts'
import { type ActiveJob, hostServiceName } from './types.ts'

/** A kernel that lives answers in a few; this is part of the failover's time. */
export const leaderProbeTimeoutMs = 500
/** Over each try to read and delete; the key's own time is 10 s. */
export const freeTimeoutMs = 5_000
/** Tries when the keys change meanwhile, and the pause between them. */
export const freeTriesMax = 5
const freePauseMs = 100

export type FailoverOptions = {
  readonly etcd: EtcdClient
  readonly discoverd: DiscoverdClient
  readonly table: Pick<JobTable, 'active' | 'listen'>
  readonly hostId: string
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Below it Patroni keeps what it knows of the database. */
export const scopePrefix = `${patroniPrefix}${databaseScope}/`

export async function readDatabaseKeys(etcd: EtcdClient, signal: AbortSignal): Promise<DatabaseKeys> {
  const { kvs } = await etcd.list(scopePrefix, { signal, timeoutMs: freeTimeoutMs })
  const stored = new Map<string, StoredKey>()
  for (const kv of kvs)
    stored.set(kv.key.slice(scopePrefix.length), {
      value: kv.value.toString(),
      modRevision: kv.modRevision,
    })
  const members = [...stored].flatMap(([key, value]) =>
    key.startsWith('members/') ? [[key.slice('members/'.length), value] as const] : [],
  )
  return { leader: stored.get('leader'), sync: stored.get('sync'), members: new Map(members) }
}

/** Deletes the leader key if the leader, its record and its standby are still what was judged. */
async function free(
  { etcd, signal }: FailoverOptions,
  verdict: Verdict & { kind: 'free' },
): Promise<boolean> {
  const { leader, syncRevision, memberRevision } = verdict
  const key = `${scopePrefix}leader`
  const { succeeded } = await etcd.txn(
    {
      guards: [
        { key, is: 'equal', value: leader },
        { key: `${scopePrefix}sync`, is: 'unchanged', modRevision: syncRevision },
        { key: `${scopePrefix}members/${leader}`, is: 'unchanged', modRevision: memberRevision },
      ],
      ops: [{ op: 'delete', key }],
    },
    { signal, timeoutMs: freeTimeoutMs },
  )
  return succeeded
}

/** `mayLive`: the leader is asked first, because a host may be gone from discoverd and live. */
export async function freeLeader(
  options: FailoverOptions,
  isDead: (address: string) => boolean,
  mayLive: boolean,
): Promise<void> {
  const { etcd, log, signal } = options
  for (let n = 0; n < freeTriesMax; n++) {
    const verdict = judgeLeader(await readDatabaseKeys(etcd, signal), isDead)
    if (verdict.kind === 'leave') {
      log.info({ reason: verdict.reason }, 'the leader key of the database stays')
      return
    }
    // A Patroni that is only starved of processor time is connected to all the same.
    if (mayLive && (await reach(verdict.address, patroniPort, leaderProbeTimeoutMs)) === 'open') {
      log.warn({ address: verdict.address }, 'the primary is there: its leader key stays')
      return
    }
    if (await free(options, verdict)) {
      log.warn({ leader: verdict.leader, address: verdict.address }, 'freed the leader key of a dead primary')
      return
    }
    await sleep(freePauseMs, signal)
  }
}

/** A host's lease in discoverd has ended. */
async function onHostGone(options: FailoverOptions, host: string): Promise<void> {
  const leases = await listLeases(options.etcd, { signal: options.signal, timeoutMs: freeTimeoutMs })
  const subnets = leases.flatMap(l => (l.host === host ? (parseSubnet(l.subnet) ?? []) : []))
  await freeLeader(options, address => subnets.some(s => contains(s, address)), true)
}

/** Whether the job is one of the database's nodes. */
export function isDatabase({ job }: ActiveJob): boolean {
  return job.config.ports?.some(p => p.service?.name === databaseScope) ?? false
}

/** Watches hosts and own jobs until the signal aborts. */
export async function shortenFailover(options: FailoverOptions): Promise<void> {
  const { discoverd, table, hostId, log, signal } = options
  const attempt = (work: Promise<void>) =>
    work.catch((err: unknown) => {
      // Then the key's own time ends the wait.
      if (!signal.aborted) log.warn({ err }, 'the leader key of the database was left alone')
    })
  const unlisten = table.listen(({ event, job }) => {
    const address = job.internal_ip
    if ((event !== 'stop' && event !== 'error') || !address || !isDatabase(job)) return
    void attempt(freeLeader(options, a => a === address, false))
  })
  try {
    for await (const event of discoverd.watch(hostServiceName, { signal })) {
      const host = event.instance?.meta?.['id']
      if (event.kind === 'down' && host && host !== hostId) void attempt(onHostGone(options, host))
    }
  } finally {
    unlisten()
  }
}
