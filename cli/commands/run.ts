// `flynn run` (contract cli.md 9).
import type { ControllerClient } from '../../controller/client.ts'
import type { Job, NewJob } from '../../controller/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { runAttached } from '../attached.ts'
import type { Command } from '../command.ts'
import type { CommandContext } from '../context.ts'
import { errors } from '../errors.ts'
import { parseLimits } from '../limits.ts'
import { parseLeading } from '../usage.ts'

const slugRunner = '/runner/init'

/** Of a job that was killed: 128 and the number of SIGKILL. */
const killedStatus = 137
export const reasonTimeoutMs = 3_000

/** A job that is killed says nothing itself; its record tells when it was for want of memory. */
async function tellKilled(
  context: CommandContext,
  client: ControllerClient,
  app: string,
  { args = [] }: NewJob,
): Promise<void> {
  const same = (other: Job) => !other.type && (other.args ?? []).join('\0') === args.join('\0')
  const find = async () => (await client.jobs(app)).find(same)?.host_error
  const options = { timeoutMs: reasonTimeoutMs, what: 'the reason' }
  // Without a reason the status has to do.
  const reason = await poll(find, options).catch(() => undefined)
  if (reason) context.notice(reason)
}

const list = (text: string | undefined) =>
  (text ?? '')
    .split(',')
    .map(s => s.trim())
    .filter(s => s !== '')

export const runCommand: Command = {
  usage: `usage: flynn run [-d] [-r <release>] [-l] [--limits <limits>] [--profiles <profiles>] [--mounts-from <proc>] [--json] [--] <command> [<argument>...]

Run a job of an app and show its output; its exit status becomes that of this command.

Options:
  -d, --detached            start it and print its id
  -r, --release=<release>   another release than the current one
  -l, --enable-log          keep its output in the app's log
  --limits=<limits>         such as memory=512MB,cpu=500
  --profiles=<profiles>     such as loop
  --mounts-from=<proc>      with the mounts of this process type
  --json                    with -d: print the job as JSON

Examples:
  $ flynn -a hello run -- psql -c 'SELECT 1'
  $ flynn -a hello run bash
`,
  async run(argv, context) {
    const args = parseLeading(argv, {
      min: 1,
      options: {
        detached: { type: 'boolean', short: 'd' },
        release: { type: 'string', short: 'r' },
        entrypoint: { type: 'string', short: 'e' },
        'enable-log': { type: 'boolean', short: 'l' },
        limits: { type: 'string' },
        profiles: { type: 'string' },
        'mounts-from': { type: 'string' },
      },
    })
    const client = await context.client()
    const app = await context.app()
    const releaseId = args.text('release')
    const release = releaseId === undefined ? await context.mustRelease() : await client.release(releaseId)
    if (!release.artifacts?.length) throw errors.RELEASE_NO_ARTIFACT({ release: release.id, app: app.name })
    const [first] = args.rest
    const entrypoint = args.text('entrypoint')
    if (entrypoint !== undefined) context.notice('warning: -e is deprecated; write the whole command instead')
    const words = entrypoint === undefined ? args.rest : [entrypoint, ...args.rest]
    const detached = args.flag('detached')
    const mountsFrom = args.text('mounts-from')
    const job: NewJob = {
      release: release.id,
      release_env: true,
      args: release.meta?.['git'] === 'true' && first !== slugRunner ? [slugRunner, ...words] : [...words],
      disable_log: !(detached || args.flag('enable-log')),
      ...(args.text('limits') === undefined ? {} : { resources: parseLimits(list(args.text('limits'))) }),
      ...(args.text('profiles') === undefined ? {} : { profiles: list(args.text('profiles')) }),
      ...(mountsFrom === undefined ? {} : { mounts_from: mountsFrom }),
    }
    if (!detached) {
      const status = await runAttached(client, { app: app.id, job })
      if (status === killedStatus) await tellKilled(context, client, app.id, job)
      return status
    }
    const started = await client.runJob(app.id, job)
    context.done(args, started, started.id ?? started.uuid)
    return 0
  },
}
