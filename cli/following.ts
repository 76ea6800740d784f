// Jobs of an app while a deployment or a scale request goes on: one line a job, and for a job that ends by itself why,
// with the last lines that it wrote, so that nobody has to go looking for the reason.
import { createInterface } from 'node:readline'
import type { ControllerClient } from '../controller/client.ts'
import type { ControllerEvent, Job, LogMessage } from '../controller/types.ts'
import { sleep } from '../pkg/clock/clock.ts'
import type { Live } from './live.ts'

/** Of one job that failed, and of so many jobs. */
export const lastLinesMax = 20
export const failuresToldMax = 3
/** The last lines of a job take a moment from the host to the log. */
export const lastLinesTimeoutMs = 3_000
const settledMs = 300

const ended: ReadonlySet<string> = new Set(['down', 'crashed', 'failed'])

export type FollowedJobs = {
  /** How many jobs of the release ended by themselves. */
  failures(): number
  event(event: ControllerEvent<Job>): void
  /** Resolves when every failure that was seen has been told. */
  settle(): Promise<void>
  /** Once the change has failed: what jobs wrote that started and never came up, then the same. */
  settleFailed(): Promise<void>
}

export type FollowOptions = {
  readonly client: ControllerClient
  readonly app: string
  /** Jobs of this release are to come up: one that ends by itself is a failure. */
  readonly release: string
  readonly live: Live
  /** Whether the jobs' lines are shown here as well; failures are in any case. */
  readonly lines: boolean
}

export function clock(time: string | undefined): string {
  return (time ?? '').slice(11, 23).padEnd(12, '0')
}

/** `HH:MM:SS.mmm ==> web host-uuid up` (contract cli.md 8.2). */
export function jobLine(event: ControllerEvent<Job>): string {
  const job = event.data
  return `${clock(event.created_at)} ==> ${job.type ?? ''} ${job.id || job.uuid} ${job.state ?? ''}`
}

async function readLog(
  client: ControllerClient,
  app: string,
  id: string,
  signal: AbortSignal,
): Promise<string[]> {
  const stream = await client.appLog(app, {
    jobId: id,
    lines: lastLinesMax,
    streamTypes: ['stdout', 'stderr'],
    signal,
  })
  const lines: string[] = []
  for await (const line of createInterface({ input: stream }))
    if (line !== '') lines.push((JSON.parse(line) as LogMessage).msg ?? '')
  return lines
}

/** What a job wrote last; empty when it wrote nothing or the log cannot be had in time. */
export async function lastLines(
  client: ControllerClient,
  app: string,
  id: string,
): Promise<readonly string[]> {
  const signal = AbortSignal.timeout(lastLinesTimeoutMs)
  let lines: string[] = []
  try {
    for (;;) {
      await sleep(settledMs, signal)
      const now = await readLog(client, app, id, signal)
      if (now.length > 0 && now.length === lines.length) return now
      lines = now
    }
  } catch {
    // The log is a help; without it the job's state has to do.
    return lines
  }
}

/** A job that runs and is not healthy: nearly always its program listens elsewhere, or is not done with starting. */
const neverUp = 'started and never came up (it has to listen on $PORT)'

function why(job: Job): string {
  if (job.exit_status === undefined && !job.host_error) return neverUp
  if (job.exit_status === undefined) return `could not be started: ${job.host_error}`
  return `ended with status ${job.exit_status}${job.host_error ? `, ${job.host_error}` : ''}`
}

export function followJobs(options: FollowOptions): FollowedJobs {
  const { client, app, release, live, lines } = options
  const asked = new Set<string>()
  /** Those that were there since: one that an earlier change stops may end only now, and nobody waits for it. */
  const alive = new Set<string>()
  const failed = new Set<string>()
  const reasons = new Set<string>()
  const telling: Promise<void>[] = []
  /** Started, and neither up nor ended since. */
  const starting = new Map<string, Job>()
  const tell = async (job: Job) => {
    const tail = await lastLines(client, app, job.id || job.uuid)
    // Jobs that start anew fail the same way, but for their ids and numbers: one is enough to read. The two streams may
    // come in either order.
    const reason = [why(job), ...tail.toSorted()].join('\n').replaceAll(/[0-9a-f-]{36}|\d+/g, '#')
    if (reasons.has(reason)) return
    reasons.add(reason)
    const text = tail.map(line => `    ${line}\n`).join('')
    live.say(`${job.type} ${job.id || job.uuid} ${why(job)}${text === '' ? '\n' : `:\n${text}`}`)
  }
  const settle = async () => {
    await Promise.all(telling)
  }
  return {
    event(event) {
      const job = event.data
      if (lines) live.set(job.uuid, jobLine(event))
      if (job.state === 'stopping') asked.add(job.uuid)
      else if (!ended.has(job.state ?? '')) alive.add(job.uuid)
      if (job.type && job.release === release) {
        if (job.state === 'starting') starting.set(job.uuid, job)
        else if (job.state === 'up' || failed.has(job.uuid)) starting.delete(job.uuid)
      }
      const started = job.host_error || job.exit_status !== undefined
      const own = job.type && job.release === release && alive.has(job.uuid)
      if (!own || asked.has(job.uuid) || failed.has(job.uuid) || !started || !ended.has(job.state ?? ''))
        return
      failed.add(job.uuid)
      starting.delete(job.uuid)
      if (failed.size <= failuresToldMax) telling.push(tell(job))
    },
    failures: () => failed.size,
    settle,
    async settleFailed() {
      if (failed.size === 0)
        for (const job of [...starting.values()].slice(0, failuresToldMax)) telling.push(tell(job))
      await settle()
    },
  }
}
