// Everything an aggregator has, for one that starts beside it: octet-counted frames, as they came. Best effort: hosts
// send their files to an aggregator that knows nothing of them, so only time is lost when this fails.
import type { DiscoverdClient } from '../discoverd/client.ts'
import { HttpClient } from '../pkg/http/client.ts'
import type { Logger } from '../pkg/log/log.ts'
import { encodeFrame, frameDecoder } from '../pkg/syslog/syslog.core.ts'
import type { Aggregator } from './aggregator.ts'

export const snapshotType = 'application/vnd.flynn.logaggregator-snapshot'
/** For the whole of it; after that the start goes on without. */
export const snapshotTimeoutMs = 10_000
/** How long a start waits for discoverd to say who leads. */
const leaderTimeoutMs = 3_000

export function* snapshotFrames(aggregator: Aggregator): Generator<Buffer> {
  for (const entry of aggregator.all()) yield encodeFrame(entry.text)
}

/** Adds the lines of the aggregator at `url`; answers how many. Stops at the first bad frame. */
export async function loadSnapshot(aggregator: Aggregator, url: string): Promise<number> {
  const res = await new HttpClient({ url }).raw('GET', '/snapshot', {
    timeoutMs: snapshotTimeoutMs,
    retryMs: 0,
  })
  const decoder = frameDecoder()
  let lines = 0
  for await (const chunk of res.body as AsyncIterable<Uint8Array>)
    for (const text of decoder.push(chunk)) {
      aggregator.restore(text)
      lines++
    }
  return lines
}

/** Loads the snapshot of the service's leader, if there is one and it is somebody else. Never rejects. */
export async function loadFromLeader(
  aggregator: Aggregator,
  options: {
    readonly discoverd: DiscoverdClient
    readonly service: string
    readonly ownAddress: string | undefined
    readonly log: Logger
  },
): Promise<void> {
  const { discoverd, service, log } = options
  try {
    const leader = await discoverd.leader(service, { timeoutMs: leaderTimeoutMs })
    const host = leader?.addr.slice(0, leader.addr.lastIndexOf(':'))
    if (host === undefined || host === options.ownAddress) return
    const lines = await loadSnapshot(aggregator, `http://${host}`)
    log.info({ lines, host }, 'snapshot loaded')
  } catch (err) {
    log.warn({ err }, 'no snapshot, hosts will send their logs')
  }
}
