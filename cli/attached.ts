// A one-off job with this terminal attached to it: frames out to the two streams, input, signals and window size in,
// and the job's exit status back (contract cli.md 9).
import type { Attachment, ControllerClient } from '../controller/client.ts'
import type { NewJob } from '../controller/types.ts'
import { errors } from './errors.ts'
import { takeQuit } from './quit.ts'

const signals = { SIGINT: 2, SIGTERM: 15, SIGKILL: 9, SIGWINCH: 28 } as const
/** After a first interrupt the job has this long to end. */
export const killGraceMs = 10_000

export type AttachedOptions = {
  readonly app: string
  readonly job: NewJob
  /** Where the job's output goes and its input comes from; this terminal when absent. */
  readonly input?: NodeJS.ReadableStream
  readonly output?: NodeJS.WritableStream
}

function isTerminal(options: AttachedOptions): boolean {
  return !options.input && !options.output && process.stdin.isTTY === true && process.stdout.isTTY === true
}

function withTerminal(job: NewJob): NewJob {
  const { columns, rows } = process.stdout
  const env = { COLUMNS: String(columns), LINES: String(rows), TERM: process.env['TERM'] ?? 'xterm' }
  return { ...job, tty: true, tty_columns: columns, tty_lines: rows, env: { ...job.env, ...env } }
}

async function pumpInput(attachment: Attachment, input: NodeJS.ReadableStream): Promise<void> {
  for await (const chunk of input) {
    await attachment.writeStdin(typeof chunk === 'string' ? Buffer.from(chunk) : (chunk as Uint8Array))
  }
  attachment.closeStdin()
}

/** Passes interrupts on once, the end by force later; returns what undoes it. */
function forwardSignals(attachment: Attachment, terminal: boolean): () => void {
  let timer: NodeJS.Timeout | undefined
  const giveBack = takeQuit(name => {
    if (timer) return
    attachment.signal(signals[name])
    timer = setTimeout(() => attachment.signal(signals.SIGKILL), killGraceMs)
  })
  const onResize = () => {
    attachment.resize(process.stdout.rows, process.stdout.columns)
    attachment.signal(signals.SIGWINCH)
  }
  if (terminal) process.on('SIGWINCH', onResize)
  return () => {
    clearTimeout(timer)
    giveBack()
    process.off('SIGWINCH', onResize)
  }
}

async function write(stream: NodeJS.WritableStream, data: Uint8Array): Promise<void> {
  if (!stream.write(data)) await new Promise<void>(resolve => stream.once('drain', () => resolve()))
}

async function readFrames(attachment: Attachment, output: NodeJS.WritableStream): Promise<number> {
  for await (const frame of attachment.frames()) {
    if (frame.type === 'exit') return frame.status
    if (frame.type === 'error') throw errors.JOB_ERROR({ message: frame.message })
    if (frame.type !== 'data' || frame.data.length === 0) continue
    await write(frame.stream === 'stdout' ? output : process.stderr, frame.data)
  }
  throw errors.JOB_ENDED()
}

/** Runs a job to its end and resolves with its exit status. */
export async function runAttached(client: ControllerClient, options: AttachedOptions): Promise<number> {
  const terminal = isTerminal(options)
  const job = terminal ? withTerminal(options.job) : options.job
  const attachment = await client.runJobAttached(options.app, job)
  const input = options.input ?? process.stdin
  const undo = forwardSignals(attachment, terminal)
  if (terminal) process.stdin.setRawMode(true)
  // The job may end without having read all its input; its exit status tells the story then.
  pumpInput(attachment, input).catch(() => attachment.closeStdin())
  try {
    return await readFrames(attachment, options.output ?? process.stdout)
  } finally {
    undo()
    if (terminal) process.stdin.setRawMode(false)
    attachment.close()
    process.stdin.destroy()
  }
}
