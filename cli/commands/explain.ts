// `flynn explain`: why a job is where it is, or why it is nowhere (ours).
import type { HostVerdict, Job, JobExplanation } from '../../controller/types.ts'
import type { Command } from '../command.ts'
import { errors } from '../errors.ts'
import { formatLimit } from '../limits.ts'
import { orUndefined } from '../missing.ts'
import { nearest, orList, suggestionsMax } from '../suggest.core.ts'
import { parse } from '../usage.ts'

const idOf = (job: Job): string => job.id || job.uuid

/** The beginning of an id or uuid is enough when it fits one job only. */
function findJob(jobs: readonly Job[], word: string): Job | undefined {
  const exact = jobs.find(j => j.id === word || j.uuid === word)
  if (exact !== undefined) return exact
  const begun = jobs.filter(j => j.id?.startsWith(word) || j.uuid.startsWith(word))
  return begun.length === 1 ? begun[0] : undefined
}

function unknownJob(jobs: readonly Job[], word: string, app: string): Error {
  const near = nearest(
    word,
    jobs.flatMap(j => [idOf(j), j.uuid]),
  ).flatMap(id => jobs.find(j => j.id === id || j.uuid === id) ?? [])
  // Of a process type somebody means those that are not up.
  const ofType = jobs.filter(j => (j.type || 'run') === word).slice(0, suggestionsMax)
  const meant = [...new Set((near.length > 0 ? near : ofType).map(idOf))]
  const remedy =
    meant.length > 0 ? `did you mean ${orList(meant)}?` : `flynn -a ${app} ps --all lists its jobs`
  return errors.NO_SUCH_JOB({ job: word, app, remedy })
}

function verdictLine(verdict: HostVerdict): string {
  return `  ${verdict.fits ? '+' : '-'} ${verdict.host} ${verdict.reason}\n`
}

/** What people read. */
export function explanationText(told: JobExplanation): string {
  const lines = [
    `${told.id ?? told.uuid} (${told.type ?? 'run'}, ${told.state})\n`,
    `${told.summary}\n`,
    ...told.notes.map(note => `${note}\n`),
    ...(told.requests
      ? [
          `it asks for ${formatLimit('memory', told.requests.memory)} of memory and ${told.requests.cpu / 1000} cores\n`,
        ]
      : []),
    ...((told.hosts?.length ?? 0) > 0 ? ['hosts:\n', ...(told.hosts ?? []).map(verdictLine)] : []),
  ]
  return lines.join('')
}

export const explain: Command = {
  usage: `usage: flynn explain [--json] <job>

Say why a job is where it is, how it ended, or why it does not start and what
speaks against each host. The beginning of its id is enough.

Options:
  --json  print the explanation as JSON

Example:
  $ flynn -a hello explain 7fea2d1c
  7fea2d1c-9c53-4f5a-9f0f-1e5a3c1f1b9f (web, pending)
  it waits: no host fits: 2 with too little memory
  its release shall run 3 web; 2 of them run
  it asks for 2GB of memory and 0.01 cores
  hosts:
    - host0 has too little memory: 2GB asked for, 1.2GB of 4GB left
    - host1 has too little memory: 2GB asked for, 512MB of 4GB left
`,
  async run(argv, context) {
    const args = parse(argv, { min: 1, max: 1 })
    const word = args.rest[0] ?? ''
    const client = await context.client()
    const app = await context.appName()
    const jobs = await client.jobs(app)
    const job = findJob(jobs, word)
    if (job === undefined) throw unknownJob(jobs, word, app)
    const told = await orUndefined(client.explainJob(app, idOf(job)))
    if (told === undefined) throw unknownJob(jobs, word, app)
    context.print(args, told, explanationText(told))
    return 0
  },
}
