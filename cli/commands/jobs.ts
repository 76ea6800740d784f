// `flynn ps` and `flynn kill` (contract cli.md 8.2).
import type { Job } from '../../controller/types.ts'
import { duration, table } from '../../pkg/table/table.ts'
import type { Command } from '../command.ts'
import { errors } from '../errors.ts'
import { failureText } from '../failure.ts'
import { parse } from '../usage.ts'

const idOf = (job: Job) => job.id || job.uuid
/** Those without a time come first. */
const timeOf = (job: Job) => (job.created_at === undefined ? 0 : Date.parse(job.created_at))

function rowsOf(jobs: readonly Job[], withCommand: boolean): readonly (readonly string[])[] {
  const now = Date.now()
  return [
    ['ID', 'TYPE', 'STATE', 'CREATED', 'RELEASE', ...(withCommand ? ['COMMAND'] : [])],
    ...jobs.map(job => [
      idOf(job),
      job.type || 'run',
      job.state ?? '',
      job.created_at ? `${duration(now - Date.parse(job.created_at))} ago` : '',
      job.release ?? '',
      ...(withCommand ? [(job.args ?? []).join(' ')] : []),
    ]),
  ]
}

export const ps: Command = {
  usage: `usage: flynn ps [-a] [-c] [-q] [-t <type>] [--json]

List the jobs of an app, oldest first.

Options:
  -a, --all          also those that have ended
  -c, --command      show their commands
  -q, --quiet        only their ids
  -t, --type=<type>  only of this process type
  --json             print the jobs as JSON

Example:
  $ flynn -a hello ps
`,
  async run(argv, context) {
    const args = parse(argv, {
      max: 0,
      options: {
        all: { type: 'boolean', short: 'a' },
        command: { type: 'boolean', short: 'c' },
        quiet: { type: 'boolean', short: 'q' },
        type: { type: 'string', short: 't' },
      },
    })
    const wanted = args.text('type')
    const all = await (await context.client()).jobs(await context.appName())
    const jobs = all
      .filter(j => args.flag('all') || j.state === 'up' || j.state === 'pending')
      .filter(j => wanted === undefined || (j.type || 'run') === wanted)
      .sort((a, b) => timeOf(a) - timeOf(b))
    const text = args.flag('quiet')
      ? jobs.map(j => `${idOf(j)}\n`).join('')
      : table(rowsOf(jobs, args.flag('command')))
    context.print(args, jobs, text)
    return 0
  },
}

export const kill: Command = {
  usage: `usage: flynn kill [--json] <job>...

Kill jobs. Those of a scaled process are started anew.

Options:
  --json  print the ids of the killed jobs as JSON

Example:
  $ flynn -a hello kill host0-7fea2d1c-9c53-4f5a-9f0f-1e5a3c1f1b9f
`,
  async run(argv, context) {
    const args = parse(argv, { min: 1 })
    const client = await context.client()
    const app = (await context.app()).id
    const killed: string[] = []
    for (const id of args.rest) {
      try {
        await client.killJob(app, id)
        killed.push(id)
        if (!args.json) context.notice(`Job ${id} killed.`)
      } catch (e) {
        context.notice(`ERROR: could not kill job ${id}: ${failureText(e)}`)
      }
    }
    if (args.json) context.print(args, { killed }, '')
    if (killed.length < args.rest.length) throw errors.NOT_ALL_KILLED()
    return 0
  },
}
