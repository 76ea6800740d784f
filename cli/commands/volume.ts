// `flynn volume` (contract cli.md 8.5): the data volumes of an app's jobs.
import type { Volume } from '../../controller/types.ts'
import { duration, table } from '../../pkg/table/table.ts'
import type { Command } from '../command.ts'
import type { CommandContext } from '../context.ts'
import { goTime } from '../times.ts'
import { parse, splitAction, UnknownAction } from '../usage.ts'

const jobOf = (volume: Volume) => (volume.job ? `${volume.host_id}-${volume.job}` : '')

async function list(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 0 })
  const volumes = await (await context.client()).appVolumes(await context.appName())
  const now = Date.now()
  const rows = volumes.map(v => [
    v.id,
    v.host_id,
    v.state,
    jobOf(v),
    v.created_at ? `${duration(now - Date.parse(v.created_at))} ago` : '',
    String(v.decommissioned_at !== undefined),
  ])
  const head = ['ID', 'HOST', 'STATE', 'ATTACHED JOB', 'CREATED', 'DECOMMISSIONED']
  context.print(args, volumes, table([head, ...rows]))
}

async function show(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 1, max: 1 })
  const volume = await (await context.client()).appVolume(await context.appName(), args.rest[0] ?? '')
  const rows = [
    ['ID:', volume.id],
    ['State:', volume.state],
    ['HostID:', volume.host_id],
    ['AppID:', volume.app ?? ''],
    ['ReleaseID:', volume.release ?? ''],
    ['JobID:', jobOf(volume)],
    ['JobType:', volume.job_type ?? ''],
    ['CreatedAt:', goTime(volume.created_at)],
    ['UpdatedAt:', goTime(volume.updated_at)],
    ['DecommissionedAt:', goTime(volume.decommissioned_at)],
  ]
  context.print(args, volume, table(rows))
}

async function decommission(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 1, max: 1 })
  const client = await context.client()
  const app = await context.appName()
  const volume = await client.appVolume(app, args.rest[0] ?? '')
  const gone = await client.decommissionVolume(app, volume)
  const text = `volume ${gone.id} successfully decommissioned at ${goTime(gone.decommissioned_at)}\n`
  context.print(args, gone, text)
}

export const volume: Command = {
  usage: `usage: flynn volume [--json]
       flynn volume show [--json] <id>
       flynn volume decommission [--json] <id>

Show the volumes of an app. A decommissioned volume keeps its data and is never given to a job again.

Options:
  --json  print as JSON

Examples:
  $ flynn -a hello volume
  $ flynn -a hello volume decommission 9d2a0f1e-2c3d-4e5f-8a7b-6c5d4e3f2a1b
`,
  async run(argv, context) {
    const { action, rest } = splitAction(argv)
    if (action === 'show') await show(rest, context)
    else if (action === 'decommission') await decommission(rest, context)
    else if (action === undefined) await list(rest, context)
    else throw new UnknownAction(action)
    return 0
  },
}
