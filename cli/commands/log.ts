// `flynn log` (contract cli.md 10).
import { createInterface } from 'node:readline'
import type { LogMessage } from '../../controller/types.ts'
import type { Command } from '../command.ts'
import type { CommandContext } from '../context.ts'
import { parse, UsageError } from '../usage.ts'

/** As many as the cluster keeps of an app. */
export const logLinesMax = 10_000

type Options = { readonly raw: boolean; readonly split: boolean; readonly init: boolean }

/** RFC 3339 with exactly six digits of a second. */
export function sixDigits(timestamp: string): string {
  return timestamp.replace(
    /(\d\d:\d\d:\d\d)(?:\.(\d+))?/,
    (_whole, time: string, fraction = '') => `${time}.${fraction.slice(0, 6).padEnd(6, '0')}`,
  )
}

function print(line: LogMessage, options: Options, context: CommandContext): void {
  const name = `${line.process_type ?? ''}.${line.job_id ?? ''}`
  const text = options.raw
    ? `${line.msg ?? ''}\n`
    : `${sixDigits(line.timestamp ?? '')} ${line.source ?? 'app'}[${name}]: ${line.msg ?? ''}\n`
  if (line.stream === 'stdout' || (line.stream === 'stderr' && !options.split)) context.out(text)
  else if (line.stream === 'stderr' || (line.stream === 'init' && options.init)) process.stderr.write(text)
}

export const log: Command = {
  usage: `usage: flynn log [-f] [-j <id>] [-n <lines>] [-r] [-s] [-t <type>] [-i] [--json]

Show the log of an app.

Options:
  -f, --follow               go on with new lines
  -j, --job=<id>             only of this job
  -n, --number=<lines>       only the last lines
  -r, --raw-output           without time and source
  -s, --split-stderr         standard error lines to standard error
  -t, --process-type=<type>  only of this process type
  -i, --init                 also what the host says of the jobs
  --json                     each line as a JSON object

Example:
  $ flynn -a hello log -f -n 20
`,
  async run(argv, context) {
    const args = parse(argv, {
      max: 0,
      options: {
        follow: { type: 'boolean', short: 'f' },
        job: { type: 'string', short: 'j' },
        number: { type: 'string', short: 'n' },
        'raw-output': { type: 'boolean', short: 'r' },
        'split-stderr': { type: 'boolean', short: 's' },
        'process-type': { type: 'string', short: 't' },
        init: { type: 'boolean', short: 'i' },
      },
    })
    const [number, job, type, init] = [
      args.text('number'),
      args.text('job'),
      args.text('process-type'),
      args.flag('init'),
    ]
    if (number !== undefined && !(/^-?\d+$/.test(number) && Number(number) <= logLinesMax))
      throw new UsageError(`--number wants a whole number up to ${logLinesMax}`)
    const stream = await (await context.client()).appLog(await context.appName(), {
      follow: args.flag('follow'),
      streamTypes: ['stdout', 'stderr', ...(init ? ['init'] : [])],
      ...(number !== undefined && Number(number) >= 0 ? { lines: Number(number) } : {}),
      ...(job === undefined ? {} : { jobId: job }),
      ...(type === undefined ? {} : { processType: type }),
    })
    const options = { raw: args.flag('raw-output'), split: args.flag('split-stderr'), init }
    for await (const text of createInterface({ input: stream })) {
      if (text === '') continue
      if (args.json) context.out(`${text}\n`)
      else print(JSON.parse(text) as LogMessage, options, context)
    }
    return 0
  },
}
