// `flynn-host bootstrap`: flags and files in, the engine's progress out (contract host.md 1.8).
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { tokenHosts } from '../discovery/client.ts'
import { isFlynnError } from '../pkg/errors/errors.ts'
import { canonicalJson } from '../pkg/ids/ids.ts'
import { stderrProgress } from '../pkg/progress/progress.ts'
import { findOnlineHosts, introduceHosts } from './actions/hosts.ts'
import { actions } from './actions.ts'
import { BootstrapContext } from './context.ts'
import { checkSteps, runSteps } from './engine.ts'
import { errors } from './errors.ts'
import { parseManifest, readManifestText, type Step } from './manifest.ts'
import { jsonReporter, type Reporter, textReporter } from './progress.ts'
import { loadState, saveState, stateFile } from './state.ts'

export const defaultManifest = '/etc/flynn/bootstrap-manifest.json'
export const imagesFile = '/etc/flynn/images.json'

export const bootstrapUsage = `usage: flynn-host bootstrap [options] [<manifest>]

Bring up a cluster from the steps of a manifest (default ${defaultManifest}; - reads it from standard input).
Running it again continues after the last step that was done.

Options:
  -n, --min-hosts=MIN        hosts that must be online [default: number of --peer-ips, else 1]
  -t, --timeout=SECONDS      how long to wait for hosts [default: 120]
  --job-timeout=SECONDS      how long to wait for each job to start [default: 120]
  --json                     one JSON object per step event on standard output
  --peer-ips=IPLIST          addresses of the hosts, comma separated
  --discovery=TOKEN          the hosts that use this token (flynn-host init --init-discovery); with --min-hosts
  --steps=STEPS              only these step ids, comma separated
  --plan                     show the steps and do nothing

Example:
  CLUSTER_DOMAIN=example.com flynn-host bootstrap
`

const hostsDefaultTimeoutSeconds = 120
const jobDefaultTimeoutSeconds = 120

type Flags = {
  readonly minHosts: number
  readonly timeoutMs: number
  readonly jobTimeoutMs: number
  readonly json: boolean
  readonly plan: boolean
  readonly peerIps: readonly string[]
  readonly discovery: string | undefined
  readonly steps: readonly string[] | undefined
  readonly manifest: string
}

function list(text: string | undefined): readonly string[] {
  return (text ?? '')
    .split(',')
    .map(s => s.trim())
    .filter(s => s !== '')
}

function positive(name: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw errors.FLAG_INVALID({ flag: name, value: text })
  return value
}

function parseFlags(argv: readonly string[]): Flags | 'help' {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      'min-hosts': { type: 'string', short: 'n' },
      timeout: { type: 'string', short: 't' },
      'job-timeout': { type: 'string' },
      json: { type: 'boolean' },
      plan: { type: 'boolean' },
      'peer-ips': { type: 'string' },
      discovery: { type: 'string' },
      steps: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) return 'help'
  const peerIps = list(values['peer-ips'])
  const minHosts = positive('--min-hosts', values['min-hosts'], Math.max(1, peerIps.length))
  if (minHosts === 2) throw errors.TWO_HOSTS()
  return {
    minHosts,
    timeoutMs: positive('--timeout', values.timeout, hostsDefaultTimeoutSeconds) * 1000,
    jobTimeoutMs: positive('--job-timeout', values['job-timeout'], jobDefaultTimeoutSeconds) * 1000,
    json: values.json ?? false,
    plan: values.plan ?? false,
    peerIps,
    discovery: values.discovery,
    steps: values.steps === undefined ? undefined : list(values.steps),
    manifest: positionals[0] ?? defaultManifest,
  }
}

async function loadSteps(path: string): Promise<readonly Step[]> {
  const images = JSON.parse(await readFile(imagesFile, 'utf8').catch(() => '{}')) as Record<string, unknown>
  return parseManifest(await readManifestText(path), images)
}

/** A bootstrap belongs to one manifest's shape, one domain and one number of hosts; images may be rebuilt between. */
function fingerprint(steps: readonly Step[], flags: Flags, env: NodeJS.ProcessEnv): string {
  const shape = {
    steps: steps.map(s => [s.id, s.action]),
    domain: env['CLUSTER_DOMAIN'] ?? '',
    hosts: flags.minHosts,
  }
  return createHash('sha256').update(canonicalJson(shape)).digest('hex')
}

async function bootstrap(
  flags: Flags,
  steps: readonly Step[],
  reporter: Reporter,
  signal: AbortSignal,
  authKey: string,
) {
  const env = process.env
  const mark = fingerprint(steps, flags, env)
  const state = await loadState(stateFile, mark)
  const online = { id: 'online-hosts', action: 'check' }
  reporter.start(online)
  const urls = async () => {
    const told = flags.discovery === undefined ? [] : await tokenHosts(flags.discovery, signal)
    const all = [...flags.peerIps.map(ip => `http://${ip}:1113`), ...told.map(h => h.url.replace(/\/+$/, ''))]
    return all.length > 0 || flags.discovery !== undefined ? [...new Set(all)] : ['http://127.0.0.1:1113']
  }
  const find = async () => {
    const found = await findOnlineHosts({
      urls,
      authKey,
      wanted: flags.minHosts,
      timeoutMs: flags.timeoutMs,
      signal,
    })
    await introduceHosts(found, signal)
    return found
  }
  const hosts = await find().catch(e => {
    reporter.error(online, e instanceof Error ? e.message : String(e))
    throw e
  })
  reporter.done(online, undefined, hosts.map(h => h.id).join(', '))
  const override = env['SINGLETON']
  const options = {
    env,
    minHosts: flags.minHosts,
    singleton: override ? override === 'true' : flags.minHosts === 1,
    hostTimeoutMs: flags.timeoutMs,
    jobTimeoutMs: flags.jobTimeoutMs,
    signal,
    save: (data: Readonly<Record<string, unknown>>) => saveState(stateFile, { fingerprint: mark, data }),
  }
  const context = new BootstrapContext(options, hosts, state.data)
  try {
    await runSteps({ steps, actions, context, reporter, only: flags.steps })
  } finally {
    await context.close()
  }
}

/** Runs the command; resolves with its exit code. Errors of a step have been reported by then. */
export async function bootstrapCommand(argv: readonly string[], authKey: string): Promise<number> {
  const flags = parseFlags(argv)
  if (flags === 'help') {
    process.stdout.write(bootstrapUsage)
    return 0
  }
  const steps = await loadSteps(flags.manifest)
  checkSteps(steps, actions)
  if (flags.plan) {
    for (const step of steps) process.stdout.write(`${step.action} ${step.id}\n`)
    return 0
  }
  const reporter = flags.json
    ? jsonReporter(
        line => process.stdout.write(line),
        () => new Date(),
      )
    : textReporter(stderrProgress())
  const abort = new AbortController()
  const stop = () => abort.abort(errors.INTERRUPTED())
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  let reported = false
  const watched: Reporter = {
    ...reporter,
    error: (step, message) => {
      reported = true
      reporter.error(step, message)
    },
  }
  try {
    await bootstrap(flags, steps, watched, abort.signal, authKey)
    return 0
  } catch (e) {
    if (!reported || !isFlynnError(e)) throw e
    return 1
  }
}
