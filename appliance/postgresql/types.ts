// Wire types of the provider API (contract system-apps.md 6) and the names that the appliance is known by.
import { type Static, Type } from 'typebox'

/** Answer to `POST /databases`: the resource's id and what its app finds in its environment. */
export const Resource = Type.Object({ id: Type.String(), env: Type.Record(Type.String(), Type.String()) })
export type Resource = Static<typeof Resource>

export const postgresPort = 5432
export const patroniPort = 8008
export const defaultService = 'postgres'
/** Patroni's keys in etcd are below this and the service's name. */
export const patroniPrefix = '/flynn/'
/**
 * The life of the leader key: the longest that a dead host which nobody reports can keep writes waiting; three times what a
 * loaded machine was seen to stall. Known deaths do not wait for it: whoever knows deletes the key (host/failover.ts).
 */
export const leaderTtlSeconds = 10
