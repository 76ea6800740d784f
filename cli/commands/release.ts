// `flynn release` (contract cli.md 8.3).
import { readFile } from 'node:fs/promises'
import type { Release, ReleaseInput } from '../../controller/types.ts'
import { table } from '../../pkg/table/table.ts'
import type { Command } from '../command.ts'
import type { CommandContext } from '../context.ts'
import {
  changeRelease,
  copyRelease,
  createAndDeploy,
  deployRelease,
  openEvents,
  wantsRelease,
} from '../deploying.ts'
import { errors } from '../errors.ts'
import { mergeRelease } from '../merge.core.ts'
import { orUndefined } from '../missing.ts'
import { confirm } from '../prompt.ts'
import { ago, goTime } from '../times.ts'
import { parse, splitAction, UnknownAction } from '../usage.ts'

export const deleteTimeoutSeconds = 60

async function list(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 0, options: { quiet: { type: 'boolean', short: 'q' } } })
  const releases = await (await context.client()).appReleases(await context.appName())
  const text = args.flag('quiet')
    ? releases.map(r => `${r.id}\n`).join('')
    : table([['ID', 'Created'], ...releases.map(r => [r.id, ago(r.created_at)])])
  context.print(args, releases, text)
}

async function show(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 1 })
  const client = await context.client()
  const [id] = args.rest
  const release = id === undefined ? await context.mustRelease() : await client.release(id)
  if (args.json) {
    context.print(args, release, '')
    return
  }
  const artifacts = await Promise.all((release.artifacts ?? []).map(a => client.artifact(a)))
  const sorted = (map: Readonly<Record<string, string>> | undefined) =>
    Object.entries(map ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))
  const types = Object.keys(release.processes ?? {}).sort()
  context.out(
    table([
      ['ID:', release.id],
      ...artifacts.map((a, i) => [`Artifact[${i}]:`, `${a.type}+${a.uri}`]),
      ['Process Types:', types.join(', ')],
      ['Created At:', goTime(release.created_at)],
      ...sorted(release.env).map(([k, v]) => [`ENV[${k}]`, v]),
      ...sorted(release.meta).map(([k, v]) => [`META[${k}]`, v]),
    ]),
  )
}

async function readRelease(path: string): Promise<ReleaseInput> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as ReleaseInput
  } catch (e) {
    throw errors.FILE_UNREADABLE({ path, reason: e instanceof Error ? e.message : String(e) }, { cause: e })
  }
}

async function update(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 1, max: 2, plan: true, options: { clean: { type: 'boolean' } } })
  const [file = '', id] = args.rest
  const given = await readRelease(file)
  const app = await context.app()
  const before = id === undefined ? await context.mustRelease() : await (await context.client()).release(id)
  const old = copyRelease(before, app)
  const after = args.flag('clean')
    ? { ...given, app_id: app.id, artifacts: old.artifacts ?? [] }
    : mergeRelease(old, given)
  const made = await changeRelease(context, args, { app, before, after })
  if (made) context.done(args, made, `Created release ${made.id}.`)
}

async function add(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, {
    min: 1,
    max: 1,
    plan: true,
    options: { type: { type: 'string', short: 't' }, file: { type: 'string', short: 'f' } },
  })
  const type = args.text('type') ?? 'docker'
  if (type !== 'docker') throw errors.RELEASE_TYPE({ type })
  context.notice('warning: flynn release add is deprecated; use flynn docker push or flynn deploy')
  const file = args.text('file')
  const given: ReleaseInput = file === undefined ? {} : await readRelease(file)
  const app = await context.app()
  const before = await context.release()
  const uri = args.rest[0] ?? ''
  if (!(await wantsRelease(context, args, { app, before, after: { ...given, artifacts: [uri] } }))) return
  const artifact = await (await context.client()).createArtifact({ type: 'docker', uri })
  const after = { ...given, app_id: app.id, artifacts: [artifact.id] }
  const made = await createAndDeploy(await context.client(), app, after)
  context.done(args, made, `Created release ${made.id}.`)
}

type Deletion = {
  readonly error?: string
  readonly release_deletion?: {
    readonly remaining_apps?: readonly string[] | null
    readonly deleted_files?: readonly string[] | null
  }
}

async function remove(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 1, max: 1, options: { yes: { type: 'boolean', short: 'y' } } })
  const [id = ''] = args.rest
  if (!args.flag('yes') && !(await confirm(`Are you sure you want to delete release "${id}"?`))) return
  const client = await context.client()
  const app = await context.app()
  const stop = AbortSignal.timeout(deleteTimeoutSeconds * 1000)
  const filter = { app: app.id, objectId: id, types: ['release_deletion'] as const }
  const events = await openEvents<Deletion>(client, { ...filter, signal: stop })
  try {
    await client.deleteRelease(app.id, id)
    const event = await events.next().catch(e => {
      throw stop.aborted ? errors.RELEASE_DELETE_TIMEOUT({ seconds: deleteTimeoutSeconds }) : e
    })
    const data = event.done ? undefined : event.value.data
    if (data?.error) throw errors.DELETION_FAILED({ reason: data.error })
    const gone = data?.release_deletion
    const remaining = gone?.remaining_apps ?? []
    const text =
      remaining.length > 0
        ? `Release ${id} is no longer of this app; it stays for others: ${remaining.join(', ')}`
        : `Deleted release ${id} (deleted ${gone?.deleted_files?.length ?? 0} files)`
    context.done(args, { id, ...gone }, text)
  } finally {
    events.close()
  }
}

/** The release deployed before the current one, by the history of deployments; else the one made before it. */
async function previous(context: CommandContext, current: Release): Promise<string> {
  const client = await context.client()
  const app = await context.appName()
  const deployments = await client.deployments(app)
  const made = deployments.find(d => d.new_release === current.id && d.status === 'complete' && d.old_release)
  // A release that was deleted since cannot be gone back to.
  const before = made?.old_release && (await orUndefined(client.release(made.old_release)))
  if (before && before.id !== current.id) return before.id
  const releases = await client.appReleases(app)
  const earlier = releases[releases.findIndex(r => r.id === current.id) + 1]
  if (!earlier) throw errors.RELEASE_NONE_BEFORE()
  return earlier.id
}

async function rollback(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 1, plan: true, options: { yes: { type: 'boolean', short: 'y' } } })
  const current = await context.mustRelease()
  const client = await context.client()
  const target = args.rest[0] ?? (await previous(context, current))
  if (target === current.id) throw errors.RELEASE_IS_CURRENT({ release: target })
  const app = await context.app()
  const after = await client.release(target)
  const change = { app, before: current, after: copyRelease(after, app), to: target }
  if (!(await wantsRelease(context, args, change))) return
  const question = `Are you sure you want to roll back to release "${target}"?`
  if (!args.plan && !args.flag('yes') && !(await confirm(question))) return
  if (!args.json) context.notice(`Rolling back to release ${target} from ${current.id}.`)
  await deployRelease(client, app, target)
  context.done(args, after, `Successfully rolled back to release ${target}.`)
}

const groupOptions = { type: { type: 'string', short: 't' }, file: { type: 'string', short: 'f' } } as const

export const release: Command = {
  usage: `usage: flynn release [-q] [--json]
       flynn release show [--json] [<id>]
       flynn release update [--clean] [--plan] [--json] <file> [<id>]
       flynn release add [-t <type>] [-f <file>] [--plan] [--json] <uri>
       flynn release delete [-y] [--json] <id>
       flynn release rollback [-y] [--plan] [--json] [<id>]

Manage the releases of an app. Without an id the current release is meant; rollback goes to the one that was
deployed before it.

Options:
  -q, --quiet        only their ids
  -t, --type=<type>  type of the image [default: docker]
  -f, --file=<file>  release in JSON; for update its fields are laid over the present ones
  --clean            the file replaces everything but the image
  -y, --yes          do not ask
  --plan             show what would change; on a terminal, ask before it is done
  --json             print as JSON

Examples:
  $ flynn -a hello release rollback --plan
  $ flynn -a hello release update processes.json
`,
  async run(argv, context) {
    const { action, rest } = splitAction(argv, groupOptions)
    if (action === 'show') await show(rest, context)
    else if (action === 'update') await update(rest, context)
    else if (action === 'add') await add(rest, context)
    else if (action === 'delete') await remove(rest, context)
    else if (action === 'rollback') await rollback(rest, context)
    else if (action === undefined) await list(rest, context)
    else throw new UnknownAction(action)
    return 0
  },
}
