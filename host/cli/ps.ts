// `flynn-host ps`: the jobs of every host (contract host.md 1.3).
import { duration, table } from '../../pkg/table/table.ts'
import { type ActiveJob, isActive, statusName, zeroTime } from '../types.ts'
import { type Command, on, text, UsageError } from './command.ts'

/** Elapsed time for people; empty for a time that has not come. */
export function ago(time: string, now: number): string {
  return time === zeroTime ? '' : `${duration(Math.max(0, now - Date.parse(time)))} ago`
}

type Field = (job: ActiveJob) => string

const fields: Readonly<Record<string, Field>> = {
  '.Job.ID': j => j.job.id,
  '.Job.Partition': j => j.job.partition ?? '',
  '.HostID': j => j.host_id,
  '.InternalIP': j => j.internal_ip ?? '',
  '.Status': j => statusName(j),
  '.CreatedAt': j => j.created_at,
  '.StartedAt': j => j.started_at,
  '.EndedAt': j => j.ended_at,
  '.Error': j => j.error ?? '',
  '.PID': j => String(j.pid ?? ''),
}

/** Expands `{{.Job.ID}}`, `{{metadata "key"}}` and the other fields of a job. */
export function formatJob(format: string, job: ActiveJob): string {
  return format.replaceAll(/\{\{\s*(.*?)\s*\}\}/g, (_, expression: string) => {
    const key = /^metadata\s+"([^"]*)"$/.exec(expression)?.[1]
    if (key !== undefined) return job.job.metadata?.[key] ?? ''
    const field = fields[expression]
    if (!field) throw new UsageError(`unknown template expression ${expression}`)
    return field(job)
  })
}

/** The table that `ps` prints. */
export function jobTable(jobs: readonly ActiveJob[], now: number): string {
  const meta = (job: ActiveJob, key: string) => job.job.metadata?.[`flynn-controller.${key}`] ?? ''
  return table([
    ['ID', 'STATE', 'CREATED', 'CONTROLLER APP', 'CONTROLLER TYPE', 'ERROR'],
    ...jobs.map(j => [
      j.job.id,
      statusName(j),
      ago(j.created_at, now),
      meta(j, 'app_name'),
      meta(j, 'type'),
      j.error ?? '',
    ]),
  ])
}

export const psCommand: Command = {
  name: 'ps',
  summary: 'List jobs',
  usage: `usage: flynn-host ps [-a|--all] [-q|--quiet] [-f <format>]

List the jobs of every host, newest first.

Options:
  -a, --all         jobs that have ended too
  -q, --quiet       IDs only
  -f, --format=FMT  with -q: a template for each job, such as '{{.Job.ID}} {{metadata "flynn-controller.app_name"}}'

Example:
  flynn-host ps -a
`,
  options: {
    all: { type: 'boolean', short: 'a' },
    quiet: { type: 'boolean', short: 'q' },
    format: { type: 'string', short: 'f' },
  },
  positionals: { min: 0, max: 0 },
  async run({ flags }, context) {
    const hosts = await context.hosts()
    const lists = await Promise.all(hosts.map(h => h.client.jobs()))
    const jobs = lists
      .flatMap(l => Object.values(l))
      .filter(j => on(flags, 'all') || isActive(j))
      .sort((a, b) => (a.created_at < b.created_at ? 1 : -1))
    if (on(flags, 'quiet')) {
      const format = text(flags, 'format') ?? '{{.Job.ID}}'
      for (const job of jobs) context.stdout.write(`${formatJob(format, job)}\n`)
    } else context.stdout.write(jobTable(jobs, Date.now()))
    return 0
  },
}
