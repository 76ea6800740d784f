// `flynn-host run`: one interactive job straight on a host, without the controller (contract host.md 1.4).
import { readFile } from 'node:fs/promises'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { errorTable } from '../../pkg/errors/errors.ts'
import { jobId } from '../../pkg/ids/ids.ts'
import type { AttachFrame } from '../attach/frames.core.ts'
import type { Attachment, ClusterHost } from '../client.ts'
import { defaultCapabilities } from '../job/defaults.core.ts'
import { attachFlags, type JobRequest, type Mountspec, type Resources } from '../types.ts'
import { type Command, type Context, type Flags, list, on, text, UsageError } from './command.ts'
import { cliErrors } from './hosts.ts'

/** After a forwarded SIGINT or SIGTERM the job is killed when this is over. */
export const killAfterMs = 10_000
const sigkill = 9
const sigwinch = 28

const errors = errorTable({
  ARTIFACT: {
    status: 400,
    message: '{file} is not an image artifact: {reason}',
    remedy: 'give a file with the JSON of one artifact, such as an entry of /etc/flynn/images.json',
  },
  STREAM_ENDED: { status: 502, message: 'the connection to the job ended before the job did' },
})

/** The part of an artifact that a job is made of (contract host.md 4.6). */
const Layer = Type.Object({
  id: Type.String(),
  length: Type.Optional(Type.Integer()),
  hashes: Type.Optional(Type.Record(Type.String(), Type.String())),
  meta: Type.Optional(Type.Record(Type.String(), Type.String())),
})
const Artifact = Type.Object({
  layer_url_template: Type.Optional(Type.String()),
  manifest: Type.Object({
    rootfs: Type.Array(Type.Object({ layers: Type.Optional(Type.Array(Layer)) })),
    entrypoints: Type.Optional(
      Type.Record(
        Type.String(),
        Type.Object({ env: Type.Optional(Type.Record(Type.String(), Type.String())) }),
      ),
    ),
  }),
})
type Artifact = Static<typeof Artifact>

async function readArtifact(file: string): Promise<Artifact> {
  let value: unknown
  try {
    const source = file === '-' ? await readStdin() : await readFile(file, 'utf8')
    value = JSON.parse(source)
  } catch (cause) {
    throw errors.ARTIFACT({ file, reason: cause instanceof Error ? cause.message : String(cause) }, { cause })
  }
  const [problem] = Value.Errors(Artifact, value)
  if (problem) throw errors.ARTIFACT({ file, reason: `${problem.instancePath || 'it'} ${problem.message}` })
  return value as Artifact
}

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}

export function mountspecsOf(artifact: Artifact): Mountspec[] {
  const template = artifact.layer_url_template ?? ''
  return (artifact.manifest.rootfs[0]?.layers ?? []).map(layer => ({
    type: 'squashfs',
    id: layer.id,
    size: layer.length ?? 0,
    hashes: layer.hashes ?? {},
    ...(layer.meta ? { meta: layer.meta } : {}),
    ...(template ? { url: template.replaceAll('{id}', layer.id) } : {}),
  }))
}

const limitNames = ['memory', 'cpu', 'temp_disk', 'max_fd', 'max_procs']
const multiples: Readonly<Record<string, number>> = { '': 0, k: 1, m: 2, g: 3, t: 4 }

/** `memory=1G,cpu=500`: bytes in binary multiples, the rest in decimal ones (contract host.md 1.4). */
export function parseLimits(items: readonly string[]): Resources {
  const limits: Resources = {
    memory: { limit: 1024 ** 3 },
    cpu: { limit: 1000 },
    temp_disk: { limit: 100 * 1024 ** 2 },
    max_fd: { request: 10_000, limit: 10_000 },
  }
  for (const item of items) {
    const [, name = '', number = '', unit = ''] = /^(\w+)=(\d+)([kmgt]?)b?$/i.exec(item) ?? []
    if (!limitNames.includes(name)) throw new UsageError(`bad limit ${item}, write for example memory=512M`)
    const base = name === 'memory' || name === 'temp_disk' ? 1024 : 1000
    const limit = Number(number) * base ** (multiples[unit.toLowerCase()] ?? 0)
    limits[name] = name === 'max_fd' ? { request: limit, limit } : { limit }
  }
  return limits
}

type Plan = { readonly flags: Flags; readonly artifact: Artifact; readonly args: readonly string[] }

/** `discoverd`: whether this host has one; without it the job must not wait for it. */
function toJob(plan: Plan, id: string, tty: boolean, discoverd: boolean): JobRequest & { id: string } {
  const { flags, artifact } = plan
  const entrypoints = artifact.manifest.entrypoints
  const terminal = tty
    ? {
        COLUMNS: String(process.stdout.columns),
        LINES: String(process.stdout.rows),
        TERM: process.env['TERM'] ?? 'xterm',
      }
    : {}
  const binds = list(flags, 'bind').map(bind => {
    const [source, target] = bind.split(':')
    if (!source || !target) throw new UsageError(`bad bind ${bind}, write SOURCE:TARGET`)
    return { location: target, target: source, writeable: true }
  })
  const extra = list(flags, 'extra-caps')
  return {
    id,
    mountspecs: mountspecsOf(artifact),
    resources: parseLimits(list(flags, 'limits')),
    // Only jobs of the platform may have the host's network.
    partition: on(flags, 'hostnet') ? 'system' : 'user',
    profiles: [...list(flags, 'profiles')],
    config: {
      args: [...plan.args],
      env: {
        ...(discoverd ? {} : { DISCOVERD: 'none' }),
        ...entrypoints?.['_default']?.env,
        ...terminal,
      },
      tty,
      stdin: true,
      disable_log: true,
      host_network: on(flags, 'hostnet'),
      mounts: binds,
      ...(text(flags, 'workdir') ? { working_dir: text(flags, 'workdir') ?? '/' } : {}),
      ...(extra.length > 0 ? { linux_capabilities: [...defaultCapabilities, ...extra] } : {}),
    },
  }
}

function pickHost(hosts: readonly ClusterHost[], id: string | undefined): ClusterHost {
  const host =
    id === undefined ? hosts[Math.floor(Math.random() * hosts.length)] : hosts.find(h => h.id === id)
  if (host) return host
  throw id === undefined ? cliErrors.NO_HOSTS() : cliErrors.UNKNOWN_HOST({ id })
}

/** Local input, signals and window sizes to the job. Returns the function that undoes it. */
function forward(attachment: Attachment, tty: boolean): () => void {
  const { stdin, stdout } = process
  const onInput = (chunk: Buffer) => {
    stdin.pause()
    void attachment.writeStdin(chunk).then(() => stdin.resume())
  }
  const onEnd = () => attachment.closeStdin()
  const onResize = () => {
    attachment.resize(stdout.rows, stdout.columns)
    attachment.signal(sigwinch)
  }
  let timer: NodeJS.Timeout | undefined
  const stop = (signal: number) => () => {
    attachment.signal(signal)
    timer ??= setTimeout(() => attachment.signal(sigkill), killAfterMs)
  }
  const onInterrupt = stop(2)
  const onTerminate = stop(15)
  if (tty) stdin.setRawMode(true)
  stdin.on('data', onInput)
  // The artifact may have been read from it, to its end.
  if (stdin.readableEnded) onEnd()
  else stdin.once('end', onEnd)
  if (tty) process.on('SIGWINCH', onResize)
  process.once('SIGINT', onInterrupt)
  process.once('SIGTERM', onTerminate)
  return () => {
    clearTimeout(timer)
    stdin.off('data', onInput)
    stdin.off('end', onEnd)
    stdin.pause()
    if (tty) stdin.setRawMode(false)
    process.off('SIGWINCH', onResize)
    process.off('SIGINT', onInterrupt)
    process.off('SIGTERM', onTerminate)
  }
}

/** Output until the end of the job; answers its exit code. */
async function follow(attachment: Attachment, tty: boolean): Promise<number> {
  let undo = () => {}
  try {
    for await (const frame of attachment.frames() as AsyncGenerator<AttachFrame>) {
      if (frame.type === 'success') undo = forward(attachment, tty)
      else if (frame.type === 'error') throw new Error(frame.message)
      else if (frame.type === 'exit') return frame.status
      else if (frame.type === 'data')
        (frame.stream === 'stdout' ? process.stdout : process.stderr).write(frame.data)
    }
    throw errors.STREAM_ENDED()
  } finally {
    undo()
  }
}

async function run(plan: Plan, context: Context): Promise<number> {
  const host = pickHost(await context.hosts(), text(plan.flags, 'host'))
  const id = jobId(host.id)
  const tty = process.stdin.isTTY === true && process.stdout.isTTY === true
  const { discoverd } = await host.client.status()
  const job = toJob(plan, id, tty, Boolean(discoverd?.url))
  const target = text(plan.flags, 'volume')
  if (target !== undefined && job.config) {
    const volume = await host.client.createVolume()
    job.config.volumes = [{ target, volume: volume.id, writeable: true, delete_on_stop: true }]
  }
  const attachment = await host.client.attach({
    job_id: id,
    flags: attachFlags.stdout | attachFlags.stderr | attachFlags.stdin | attachFlags.stream,
    ...(tty ? { height: process.stdout.rows, width: process.stdout.columns } : {}),
  })
  try {
    await host.client.addJob(job)
    return await follow(attachment, tty)
  } finally {
    attachment.close()
  }
}

export const runCommand: Command = {
  name: 'run',
  usage: `usage: flynn-host run [options] [--] <artifact> <command> [<argument>...]

Run an interactive job on a host. <artifact> is a file with an image artifact's JSON, - for stdin.

Options:
  --host=<host>         host to run on [default: a random one]
  --bind=<mountspecs>   directories of the host, SOURCE:TARGET, comma separated
  --volume=<path>       a new volume at this path, deleted when the job ends
  --limits=<limits>     resource limits, such as memory=512M,cpu=500
  --workdir=<dir>       working directory
  --hostnet             the host's network
  --profiles=<names>    profiles: zfs, kvm, loop
  --extra-caps=<names>  more capabilities than the default ones

Example:
  jq '.discoverd' /etc/flynn/images.json | flynn-host run - /bin/sh -c 'ls /'
`,
  options: {
    host: { type: 'string' },
    bind: { type: 'string' },
    volume: { type: 'string' },
    limits: { type: 'string' },
    workdir: { type: 'string' },
    hostnet: { type: 'boolean' },
    profiles: { type: 'string' },
    'extra-caps': { type: 'string' },
  },
  optionsFirst: true,
  positionals: { min: 2, max: Number.POSITIVE_INFINITY },
  async run({ flags, rest: [file = '', ...args] }, context) {
    return run({ flags, artifact: await readArtifact(file), args }, context)
  },
}
