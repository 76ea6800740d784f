// `flynn-host log`: a job's output, from its host's files and live (contract host.md 1.3).
import { isFlynnError } from '../../pkg/errors/errors.ts'
import type { AttachFrame } from '../attach/frames.core.ts'
import type { Attachment } from '../client.ts'
import { attachFlags } from '../types.ts'
import { type Command, type Context, on, text, UsageError } from './command.ts'
import { cliErrors, hostForJob } from './hosts.ts'

/** Lines kept for `--lines`. */
const linesMax = 1_000_000

type Sink = (stream: 'stdout' | 'stderr', data: Uint8Array) => void

function isQuietEnd(message: string): boolean {
  return message.includes('not running') || message.includes('attached')
}

/** Passes data frames on until the log ends. */
async function copy(attachment: Attachment, sink: Sink): Promise<void> {
  for await (const frame of attachment.frames() as AsyncGenerator<AttachFrame>) {
    if (frame.type === 'waiting') throw cliErrors.NO_SUCH_JOB()
    if (frame.type === 'error') {
      if (isQuietEnd(frame.message)) return
      throw new Error(frame.message)
    }
    if (frame.type === 'exit') return
    if (frame.type === 'data') sink(frame.stream === 'stdout' ? 'stdout' : 'stderr', frame.data)
  }
}

/** Collects whole lines and hands out the last `count`. */
function lastLines(count: number, sink: Sink): { readonly take: Sink; readonly flush: () => void } {
  const lines: { readonly stream: 'stdout' | 'stderr'; readonly data: Uint8Array }[] = []
  return {
    take(stream, data) {
      if (data.length === 0) return
      lines.push({ stream, data })
      if (lines.length > count) lines.shift()
    },
    flush() {
      for (const { stream, data } of lines) sink(stream, data)
    },
  }
}

function outputs(context: Context, splitStderr: boolean): Sink {
  const decoder = new TextDecoder()
  return (stream, data) => {
    const out = stream === 'stderr' && splitStderr ? context.stderr : context.stdout
    out.write(decoder.decode(data, { stream: true }))
  }
}

export const logCommand: Command = {
  name: 'log',
  summary: 'Show the output of a job',
  usage: `usage: flynn-host log [--init] [-f|--follow] [--lines=<number>] [--split-stderr] ID

Show the output of a job.

Options:
  --init           lines of the host about the job too (health checks, lack of memory)
  -f, --follow     go on with what comes
  --lines=<n>      only the last n lines
  --split-stderr   the job's stderr on stderr

Example:
  flynn-host log -f $(flynn-host ps -q | head -1)
`,
  options: {
    init: { type: 'boolean' },
    follow: { type: 'boolean', short: 'f' },
    lines: { type: 'string' },
    'split-stderr': { type: 'boolean' },
  },
  positionals: { min: 1, max: 1 },
  async run({ flags, rest }, context) {
    const id = rest[0] ?? ''
    const lines = Number(text(flags, 'lines') ?? 0)
    if (!Number.isInteger(lines) || lines < 0 || lines > linesMax)
      throw new UsageError(`--lines must be a number up to ${linesMax}`)
    const host = await hostForJob(context, id)
    // An unknown id would wait for ever.
    await host.client.job(id).catch((e: unknown) => {
      throw isFlynnError(e, 'object_not_found') ? cliErrors.NO_SUCH_JOB() : e
    })
    const follow = on(flags, 'follow') && lines === 0
    const attachment = await host.client.attach({
      job_id: id,
      flags:
        attachFlags.stdout |
        attachFlags.stderr |
        attachFlags.logs |
        (follow ? attachFlags.stream : 0) |
        (on(flags, 'init') ? attachFlags.initLog : 0),
    })
    const sink = outputs(context, on(flags, 'split-stderr'))
    const last = lines > 0 ? lastLines(lines, sink) : undefined
    await copy(attachment, last?.take ?? sink)
    last?.flush()
    attachment.close()
    return 0
  },
}
