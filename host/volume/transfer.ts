// Snapshots as streams between hosts: `zfs send` and `zfs recv` as child processes, coupled by pipes, so that the slower
// side sets the pace and nothing piles up in memory. The stream ends with a checksum of its own, which `recv` checks: a
// stream that was cut short or changed leaves the receiver as it was (tried on zfs-fuse 0.7). Called by store.ts.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { PassThrough, type Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { systemPath } from '../../pkg/proc/run.ts'
import type { TransferStream } from '../container/types.ts'

/** Kept of what a failing `zfs` says. */
const stderrCharsMax = 4_000

function start(args: readonly string[]) {
  const env = { ...process.env, PATH: process.env['PATH'] ?? systemPath, LC_ALL: 'C' }
  const child = spawn('zfs', args, { stdio: ['pipe', 'pipe', 'pipe'], env })
  let said = ''
  child.stderr.on('data', chunk => {
    if (said.length < stderrCharsMax) said += String(chunk)
  })
  const over = once(child, 'close').then(([code]) => {
    if (code !== 0) throw new Error(`zfs ${args[0]}: ${said.trim() || `it ended with ${code}`}`)
  })
  return { child, over }
}

/** What `snapshot` has, or what it has more than `base`. An error of `zfs` becomes one of the stream. */
export function sendDataset(snapshot: string, base: string | undefined): TransferStream {
  const { child, over } = start(['send', ...(base === undefined ? [] : ['-i', base]), snapshot])
  child.stdin.end()
  const stream = new PassThrough()
  child.stdout.on('error', e => stream.destroy(e))
  // Its end says nothing: that the program ended well does.
  child.stdout.pipe(stream, { end: false })
  over.then(
    () => stream.end(),
    (e: unknown) => stream.destroy(e instanceof Error ? e : new Error(String(e))),
  )
  return { stream, stop: () => child.kill('SIGKILL') }
}

/** Reads the stream into a dataset; answers how many bytes that were. */
export async function receiveDataset(
  dataset: string,
  stream: Readable,
  signal: AbortSignal,
): Promise<number> {
  const { child, over } = start(['recv', '-F', dataset])
  over.catch(() => undefined)
  child.stdout.resume()
  let bytes = 0
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      done(null, chunk)
    },
  })
  try {
    await pipeline(stream, counter, child.stdin, { signal })
  } catch (e) {
    // When `zfs` ended first, what it says is the reason, not the broken pipe. It ends by itself without its input.
    child.stdin.destroy()
    await over
    throw e
  }
  await over
  return bytes
}
