// `flynn-host inspect`: everything about one job (contract host.md 1.3).
import { table } from '../../pkg/table/table.ts'
import { type ActiveJob, statusName, zeroTime } from '../types.ts'
import { type Command, list, on } from './command.ts'
import { findJob } from './hosts.ts'

const redactedText = 'XXXREDACTEDXXX'

/** Rows of label and value, in the original's order. */
export function inspectRows(
  active: ActiveJob,
  options: { readonly omitEnv: boolean; readonly redact: readonly string[] },
): [string, string][] {
  const { job } = active
  const time = (t: string) => (t === zeroTime ? '' : t)
  const rows: [string, string][] = [
    ['ID', job.id],
    ['Args', (job.config.args ?? []).join(' ')],
    ['Status', statusName(active)],
    ['CreatedAt', time(active.created_at)],
    ['StartedAt', time(active.started_at)],
    ['EndedAt', time(active.ended_at)],
    ['PID', active.pid === undefined ? '' : String(active.pid)],
    ['ExitStatus', active.exit_status === undefined ? '' : String(active.exit_status)],
    ['Error', active.error ?? ''],
    ['IP Address', active.internal_ip ?? ''],
  ]
  for (const [i, m] of (job.mountspecs ?? []).entries()) rows.push([`Mountspec[${i}]`, `${m.type} ${m.id}`])
  for (const v of job.config.volumes ?? []) rows.push([`Volume[${v.target}]`, v.volume])
  rows.push(...Object.entries(job.metadata ?? {}))
  if (!options.omitEnv)
    for (const [k, v] of Object.entries(job.config.env ?? {}))
      rows.push([`ENV[${k}]`, options.redact.includes(k) ? redactedText : v])
  return rows
}

export const inspectCommand: Command = {
  name: 'inspect',
  summary: 'Show the details of a job',
  usage: `usage: flynn-host inspect [--omit-env] [--redact-env=<envs>] ID

Show the details of a job.

Options:
  --omit-env           leave the environment out
  --redact-env=<envs>  comma-separated names whose values are hidden

Example:
  flynn-host inspect --redact-env=AUTH_KEY $(flynn-host ps -q | head -1)
`,
  options: { 'omit-env': { type: 'boolean' }, 'redact-env': { type: 'string' } },
  positionals: { min: 1, max: 1 },
  async run({ flags, rest }, context) {
    const { job } = await findJob(context, rest[0] ?? '')
    const options = { omitEnv: on(flags, 'omit-env'), redact: list(flags, 'redact-env') }
    context.stdout.write(table(inspectRows(job, options)))
    return 0
  },
}
