// Takes messages in, keeps the buffers and each host's cursor, and hands new lines to those who follow. One value for
// one process; everything happens within one turn of the event loop, so a reader misses nothing between past and new.
import { type Cursor, compareCursors, parseMessage, parseSequence } from '../pkg/syslog/syslog.core.ts'
import { createBuffers, type Entry } from './buffers.core.ts'
import { errors } from './errors.ts'

/** Lines waiting for one follower; when it is that far behind, new ones pass it by. */
export const followerLinesMax = 1_000
export const followersMax = 1_000
/** Hosts whose cursor is kept; the one heard of longest ago is forgotten and sends everything again. */
export const hostsMax = 1_000

export type Follower = {
  /** Takes what has come since the last call. */
  take(): readonly Entry[]
  /** Resolves when something has come, or when it was closed. */
  wait(): Promise<void>
  close(): void
}

export type Aggregator = {
  /** False when the text is no message of ours, which the caller logs. */
  ingest(text: string): boolean
  /** Adds a line without touching its host's cursor: it came from another aggregator, which may lack some. */
  restore(text: string): void
  read(appId: string): readonly Entry[]
  /** The lines so far and those to come, with nothing between them lost. Throws TOO_MANY_READERS. */
  follow(appId: string): { readonly past: readonly Entry[]; readonly follower: Follower }
  cursors(): ReadonlyMap<string, Cursor>
  all(): Iterable<Entry>
  /** Those who follow at present. */
  readonly followers: number
}

type Queue = { lines: Entry[]; wake: () => void; closed: boolean }

function createFollower(queues: Set<Queue>, onClose: () => void): Follower {
  const queue: Queue = { lines: [], wake: () => undefined, closed: false }
  queues.add(queue)
  return {
    take() {
      const { lines } = queue
      queue.lines = []
      return lines
    },
    wait() {
      if (queue.closed || queue.lines.length > 0) return Promise.resolve()
      return new Promise(resolve => {
        queue.wake = resolve
      })
    },
    close() {
      if (queue.closed) return
      queue.closed = true
      queues.delete(queue)
      onClose()
      queue.wake()
    },
  }
}

export function createAggregator(): Aggregator {
  const buffers = createBuffers()
  const cursors = new Map<string, Cursor>()
  const followers = new Map<string, Set<Queue>>()
  let followerCount = 0

  function advance(host: string, cursor: Cursor): void {
    const known = cursors.get(host)
    if (known && compareCursors(cursor, known) <= 0) return
    cursors.delete(host)
    cursors.set(host, cursor)
    const [oldest] = cursors.keys()
    if (cursors.size > hostsMax && oldest !== undefined) cursors.delete(oldest)
  }

  function hand(appId: string, entry: Entry): void {
    for (const queue of followers.get(appId) ?? []) {
      if (queue.lines.length >= followerLinesMax) continue
      queue.lines.push(entry)
      queue.wake()
    }
  }

  return {
    ingest(text) {
      const message = parseMessage(text)
      const seq = message && parseSequence(message.structuredData)
      if (!message || seq === undefined) return false
      const { timestampUs, appName, structuredData } = message
      advance(message.hostname, { timestampUs, seq })
      const entry = { timestampUs, text }
      if (buffers.add(appName, entry, structuredData)) hand(appName, entry)
      return true
    },
    restore(text) {
      const message = parseMessage(text)
      if (!message) return
      const { timestampUs, appName, structuredData } = message
      buffers.add(appName, { timestampUs, text }, structuredData)
    },
    read: buffers.read,
    follow(appId) {
      if (followerCount >= followersMax) throw errors.TOO_MANY_READERS({ max: followersMax })
      const queues = followers.get(appId) ?? new Set()
      followers.set(appId, queues)
      followerCount++
      const follower = createFollower(queues, () => {
        followerCount--
        if (queues.size === 0) followers.delete(appId)
      })
      return { past: buffers.read(appId), follower }
    },
    cursors: () => cursors,
    all: buffers.all,
    get followers() {
      return followerCount
    },
  }
}
