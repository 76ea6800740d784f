// `flynn deploy DIR`: a directory becomes a layer on the stack image, a release, and running processes.
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { ControllerClient } from '../../controller/client.ts'
import type { App, Artifact, Job, Release, ReleaseInput } from '../../controller/types.ts'
import { makeArtifact, makeManifest } from '../../pkg/image/image.ts'
import { firstUrl } from '../addresses.ts'
import type { Command } from '../command.ts'
import type { CommandContext } from '../context.ts'
import { createAndDeploy, openEvents, wantsRelease } from '../deploying.ts'
import { errors } from '../errors.ts'
import { followJobs } from '../following.ts'
import { type Live, seconds, stderrLive } from '../live.ts'
import { size } from '../meter.ts'
import { orUndefined } from '../missing.ts'
import { appDir, type Packed, packApp } from '../packing.ts'
import { isWeb, processTypes, readCommands, readPackage } from '../procfile.ts'
import { sayOnQuit } from '../quit.ts'
import { parse } from '../usage.ts'

export const scaleTimeoutSeconds = 180
const layerUrlTemplate = 'http://blobstore.discoverd/slugs/layers/{id}.squashfs'
const stackComponent = 'stack'

async function stackImage(client: ControllerClient): Promise<Artifact> {
  const newest = (await client.artifacts()).find(a => a.meta?.['flynn.component'] === stackComponent)
  if (!newest) throw errors.NO_STACK()
  return newest
}

async function upload(client: ControllerClient, app: App, packed: Packed): Promise<Artifact> {
  const { layer, file } = packed
  await client.uploadLayer(app.id, layer, () => createReadStream(file))
  const manifest = makeManifest({
    layers: [layer],
    entrypoints: { _default: { cwd: appDir, env: { HOME: appDir, NODE_ENV: 'production' } } },
  })
  const uri = `http://blobstore.discoverd/slugs/layers/${layer.id}.squashfs`
  const { id: _id, ...artifact } = makeArtifact({
    manifest,
    uri,
    layerUrlTemplate,
    meta: { blobstore: 'true' },
  }) as Artifact
  return await client.createArtifact(artifact)
}

/** The processes that the first release starts: one of each that serves, or of the only type there is. */
function firstCounts(types: readonly string[]): Record<string, number> {
  const serving = types.filter(isWeb)
  return Object.fromEntries((serving.length > 0 ? serving : types.slice(0, 1)).map(type => [type, 1]))
}

/** Starts the first processes and waits until they are up; one that ends instead is told of, with what it wrote. */
async function firstScale(client: ControllerClient, app: App, release: Release, live: Live): Promise<void> {
  const wanted = firstCounts(Object.keys(release.processes ?? {}).sort())
  const signal = AbortSignal.timeout(scaleTimeoutSeconds * 1000)
  const events = await openEvents<Job>(client, { app: app.id, types: ['job'], signal })
  const jobs = followJobs({ client, app: app.id, release: release.id, live, lines: true })
  const states = new Map<string, Job>()
  const up = (type: string) => [...states.values()].filter(j => j.type === type && j.state === 'up').length
  try {
    await client.createScale(app.id, release.id, { new_processes: wanted, new_tags: {} })
    for await (const event of events) {
      if (event.data.release !== release.id) continue
      jobs.event(event)
      states.set(event.data.uuid, event.data)
      if (Object.entries(wanted).every(([type, n]) => up(type) >= n)) return
      if (jobs.failures() >= failedJobsMax) break
    }
  } catch (e) {
    if (!signal.aborted) throw e
  } finally {
    if (signal.aborted) await jobs.settleFailed()
    else await jobs.settle()
    events.close()
  }
  const reason =
    jobs.failures() >= failedJobsMax
      ? 'its job ends again and again'
      : `not up after ${scaleTimeoutSeconds} s`
  throw errors.FIRST_DEPLOY_FAILED({ reason, app: app.name })
}

/** A first process that has ended so often will not come up by waiting. */
const failedJobsMax = 2

type Step = { readonly live: Live; readonly label: string; readonly began: number }

function line(mark: string, { label, began }: Step, text: string): string {
  const ms = performance.now() - began
  const spent = ms < shownFromMs ? '' : seconds(ms)
  return `${mark} ${label.padEnd(8)} ${spent.padStart(6)}  ${text}`.trimEnd()
}

/** A step that has just begun has taken no time worth a word. */
const shownFromMs = 50

/** One step of the deployment as a line of its own. */
async function step<T>(
  live: Live,
  label: string,
  work: () => Promise<T>,
  text: (value: T) => string = () => '',
): Promise<T> {
  const current: Step = { live, label, began: performance.now() }
  live.set(label, () => line('...', current, ''))
  try {
    const value = await work()
    live.set(label, line('ok ', current, text(value)))
    return value
  } catch (e) {
    live.set(label, line('ERR', current, ''))
    throw e
  }
}

function releaseOf(
  app: App,
  commands: Readonly<Record<string, string>>,
  before: Release | undefined,
): ReleaseInput {
  return {
    app_id: app.id,
    env: { ...before?.env },
    meta: { ...before?.meta, 'deploy.source': 'directory' },
    processes: processTypes(app.name, commands, before?.processes ?? {}),
  }
}

type Deployed = { readonly app: App; readonly release: Release; readonly url: string | undefined }

async function deployDir(
  dir: string,
  args: { readonly json: boolean; readonly plan: boolean },
  context: CommandContext,
): Promise<Deployed | undefined> {
  const pkg = await readPackage(dir)
  const commands = await readCommands(dir, pkg)
  const client = await context.client()
  const app = await context.app()
  const before = await orUndefined(client.appRelease(app.id))
  const stack = await stackImage(client)
  const input = releaseOf(app, commands, before)
  const planned = { ...input, artifacts: [stack.id, `what is in ${dir}`] }
  if (!(await wantsRelease(context, args, { app, before, after: planned }))) return undefined
  const live = stderrLive()
  const bytes = (packed: Packed) => size(packed.layer.length)
  const installing = () => live.say('    installing npm dependencies\n')
  const packed = await step(live, 'pack', () => packApp(dir, pkg, installing), bytes)
  try {
    const image = await step(live, 'upload', () => upload(client, app, packed))
    const make = () => createAndDeploy(client, app, { ...input, artifacts: [stack.id, image.id] }, live)
    const release = await step(live, 'release', make, r => r.id)
    await startFirst(client, app, release, live)
    return { app, release, url: await firstUrl(client, app.id) }
  } finally {
    live.close()
    await packed.cleanUp()
  }
}

async function startFirst(client: ControllerClient, app: App, release: Release, live: Live): Promise<void> {
  const formations = await client.formations(app.id)
  if (formations.some(f => Object.values(f.processes ?? {}).some(n => n > 0))) return
  const restore = sayOnQuit('Its processes go on starting: flynn ps shows how far they are.')
  await step(live, 'start', () => firstScale(client, app, release, live)).finally(restore)
}

export const deploy: Command = {
  usage: `usage: flynn deploy [--plan] [--json] <dir>

Deploy the app in a directory: a Procfile says how its processes are started, or the start script of its
package.json. Its npm dependencies are installed when node_modules is missing. What .gitignore and
.flynnignore name is left out. The first deploy starts one web process; later ones replace what runs, and
when the new release does not come up the old one stays.

Options:
  --plan  show what would change; on a terminal, ask before it is done
  --json  print app, release and address as JSON

Example:
  $ flynn -a hello deploy .
  http://hello.example.com
`,
  async run(argv, context) {
    const args = parse(argv, { min: 1, max: 1, plan: true })
    const dir = resolve(args.rest[0] ?? '')
    const isDirectory = await stat(dir).then(
      s => s.isDirectory(),
      () => false,
    )
    if (!isDirectory) throw errors.DEPLOY_DIR({ dir })
    const made = await deployDir(dir, args, context)
    if (made) context.print(args, made, made.url === undefined ? '' : `${made.url}\n`)
    return 0
  },
}
