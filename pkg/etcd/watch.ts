// List and watch of a prefix without loss: a listing, then every later change, each revision whole and in order. After a
// broken stream it resumes right behind the last change seen; when that has been compacted away, or the server's
// history went backwards (restored from a backup), it lists again. Never skips by a header's revision: etcd sends
// old batches under the newest header (measured: other clients lose thousands of events to this).
import { backoff, sleep } from '../clock/clock.ts'
import type { Logger } from '../log/log.ts'
import type { Channels } from './channels.ts'
import { type Change, fromWireKeyValue, type Listing, prefixEnd, revisionOf } from './types.ts'
import { methods, type WatchResponse, type WireEvent } from './wire.ts'

export const watchPauseMinMs = 50
export const watchPauseMaxMs = 1_000
/** A stream that etcd has not confirmed by then is given up; a member that cannot is not worth waiting for. */
export const watchCreateTimeoutMs = 2_000

export type WatchHandlers = {
  /** The whole state; what was known before is void. Called first, and again after history was lost. */
  readonly onListing: (listing: Listing) => void
  /** All changes of one revision. */
  readonly onChanges: (changes: readonly Change[], revision: number) => void
  /** The stream broke; it is being opened again. */
  readonly onGap?: (cause: unknown) => void
}

type Progress = { nextRevision: number | undefined }

class HistoryLost extends Error {}

/** Runs until the signal aborts; resolves then. An exception of a handler ends it and rejects. */
export async function watchPrefix(
  channels: Channels,
  list: () => Promise<Listing>,
  prefix: string,
  handlers: WatchHandlers,
  options: { readonly signal: AbortSignal; readonly log?: Logger | undefined },
): Promise<void> {
  const delays = backoff({ minMs: watchPauseMinMs, maxMs: watchPauseMaxMs })
  const progress: Progress = { nextRevision: undefined }
  let handlerFailure: { readonly cause: unknown } | undefined
  const guarded = (f: () => void) => {
    try {
      f()
    } catch (cause) {
      handlerFailure = { cause }
      throw cause
    }
  }
  while (!options.signal.aborted) {
    try {
      if (progress.nextRevision === undefined) {
        const listing = await list()
        guarded(() => handlers.onListing(listing))
        progress.nextRevision = listing.revision + 1
      }
      await follow(
        channels,
        prefix,
        progress,
        (changes, revision) => {
          delays.reset()
          guarded(() => handlers.onChanges(changes, revision))
        },
        options.signal,
      )
    } catch (e) {
      if (handlerFailure) throw handlerFailure.cause
      if (options.signal.aborted) return
      if (e instanceof HistoryLost) progress.nextRevision = undefined
      options.log?.debug({ err: e, prefix }, 'watch broken, opening again')
      handlers.onGap?.(e)
      await sleep(delays.next(), options.signal).catch(() => undefined)
    }
  }
}

/** One stream from `nextRevision` on; rejects when it ends, for whatever reason. */
function follow(
  channels: Channels,
  prefix: string,
  progress: Progress,
  onChanges: (changes: readonly Change[], revision: number) => void,
  signal: AbortSignal,
): Promise<never> {
  const endpoint = channels.choose()
  const start = progress.nextRevision as number
  return new Promise((_, reject) => {
    const stream = channels.stream(endpoint, methods.watch)
    const createTimer = setTimeout(
      () => fail(new Error('watch was not confirmed in time')),
      watchCreateTimeoutMs,
    )
    let over = false
    const fail = (e: unknown) => {
      if (over) return
      over = true
      clearTimeout(createTimer)
      signal.removeEventListener('abort', onAbort)
      if (!(e instanceof HistoryLost) && !signal.aborted) channels.failed(endpoint)
      stream.cancel()
      reject(e)
    }
    const onAbort = () => fail(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    stream.on('error', fail)
    stream.on('end', () => fail(new Error('watch stream ended')))
    stream.on('data', (res: WatchResponse) => {
      if (over) return
      if (res.canceled) {
        const compacted = res.compact_revision !== '0'
        fail(compacted ? new HistoryLost('compacted') : new Error(`watch canceled: ${res.cancel_reason}`))
        return
      }
      if (res.created) {
        clearTimeout(createTimer)
        if (revisionOf(res.header) < start - 1) fail(new HistoryLost('revision went backwards'))
        return
      }
      try {
        for (const [revision, changes] of byRevision(res.events)) {
          onChanges(changes, revision)
          progress.nextRevision = revision + 1
        }
      } catch (e) {
        fail(e)
      }
    })
    stream.write({
      create_request: { key: Buffer.from(prefix), range_end: prefixEnd(prefix), start_revision: start },
    })
  })
}

function fromWireEvent(event: WireEvent): Change {
  if (event.type === 'PUT') return { type: 'put', ...fromWireKeyValue(event.kv) }
  return { type: 'delete', key: event.kv.key.toString(), modRevision: Number(event.kv.mod_revision) }
}

/** Groups a response's events by revision. etcd never splits one revision over two unfragmented responses. */
export function byRevision(events: readonly WireEvent[]): readonly (readonly [number, readonly Change[]])[] {
  const groups: [number, Change[]][] = []
  for (const event of events) {
    const change = fromWireEvent(event)
    const last = groups.at(-1)
    if (last && last[0] === change.modRevision) last[1].push(change)
    else groups.push([change.modRevision, [change]])
  }
  return groups
}
