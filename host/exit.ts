// With which status the daemon ends when its start failed. What keeps it running (setup/run-daemon, the systemd unit) tries
// again after every status but one: the errors listed here only an operator can do something about.
import { isFlynnError } from '../pkg/errors/errors.ts'
import { operatorNeededStatus } from './types.ts'

/**
 * Not among them, because they pass: another version (the cluster may be in the middle of an update), a second daemon, an
 * address or a host name that the network has not given yet, ports in use, ZFS or containerd that are not ready.
 */
const operatorNeeded: ReadonlySet<string> = new Set([
  'host_removed',
  'no_join_key',
  'wrong_key',
  // Tried again, it would be let in as the other host as soon as that one is off.
  'host_id_taken',
  'partitions',
  'unsupported',
])

/** Exit status of `flynn-host daemon` for an error of its start. */
export function exitStatusOf(e: unknown): number {
  return isFlynnError(e) && operatorNeeded.has(e.code) ? operatorNeededStatus : 1
}
