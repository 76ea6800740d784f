// Reads what Patroni keeps in etcd, and lets a node lead that Patroni holds back (database.core.ts). Used by `flynn-host fix`.
import { errorTable } from '../../pkg/errors/errors.ts'
import type { EtcdClient } from '../../pkg/etcd/client.ts'
import { readDatabaseKeys, scopePrefix } from '../failover.ts'
import { type WaitingDatabase, waitingDatabase } from './database.core.ts'

const writeTimeoutMs = 5_000

export const databaseErrors = errorTable({
  NOT_WAITING: {
    status: 409,
    message: 'nothing has to be given up: the database is led, or no node is held back',
    remedy: 'see what is missing with: flynn-host fix --plan',
  },
  MAY_LEAD: {
    status: 409,
    message: '{name} runs and has every acknowledged commit',
    remedy: 'it leads within seconds; look again with: flynn-host fix --plan',
    retry: true,
  },
  CHANGED: {
    status: 409,
    message: 'the database changed meanwhile',
    remedy: 'look again with: flynn-host fix --plan',
    retry: true,
  },
})

/** Rejects when etcd does not answer. */
export async function readWaitingDatabase(
  etcd: EtcdClient,
  signal: AbortSignal,
): Promise<WaitingDatabase | undefined> {
  return waitingDatabase(await readDatabaseKeys(etcd, signal))
}

/**
 * Forgets whom Patroni was waiting for, so that the newest node that is there leads. What only the others had acknowledged
 * is lost with that, also should they come back: they are rewound.
 */
export async function letNewestLead(etcd: EtcdClient, signal: AbortSignal): Promise<void> {
  const database = await readWaitingDatabase(etcd, signal)
  if (!database) throw databaseErrors.NOT_WAITING()
  const able = database.named.find(n => n.there && n.state === 'running')
  if (able) throw databaseErrors.MAY_LEAD({ name: able.name })
  const sync = `${scopePrefix}sync`
  const { succeeded, repeated } = await etcd.txn(
    {
      guards: [
        { key: `${scopePrefix}leader`, is: 'absent' },
        { key: sync, is: 'unchanged', modRevision: database.syncRevision },
      ],
      // With the status goes how far the log of the last primary was: nobody is held back for what he has not got of it.
      ops: [
        { op: 'delete', key: sync },
        { op: 'delete', key: `${scopePrefix}status` },
      ],
    },
    { signal, timeoutMs: writeTimeoutMs },
  )
  // An answer that got lost: it may have been our own doing.
  const done = succeeded || (repeated && !(await readWaitingDatabase(etcd, signal)))
  if (!done) throw databaseErrors.CHANGED()
}
