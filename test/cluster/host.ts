// One test host as tests hold it: runs programs inside, moves files, cuts the power. All state is the kernel's and
// the disk's, so two processes may hold the same host.
import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { constants } from 'node:os'
import { basename, join } from 'node:path'
import { systemPath } from '../../pkg/proc/run.ts'
import { machineLayout, pidsIn, procsFiles, setFrozen } from './cgroups.ts'
import { codePath, hostAddress, hostCgroup, hostName } from './names.ts'
import { powerOff, powerOn, powerPid } from './power.ts'
import { type ClusterState, identityOf, stillRuns } from './state.ts'
import type {
  BackgroundProcess,
  ExecOptions,
  ExecResult,
  FetchOptions,
  SpawnOptions,
  TestHost,
} from './types.ts'

export const execTimeoutMs = 60_000
export const execOutputBytesMax = 64 * 1024 * 1024
export const fetchTimeoutMs = 10_000
/** A daemon that keeps its starter's output open must not hold up the answer. */
const outputGraceMs = 500

export const hostEnv = {
  PATH: `${codePath}/node_modules/.bin:${systemPath}`,
  HOME: '/root',
  LC_ALL: 'C',
  TERM: 'xterm',
}

/** The argv that enters the host's cgroups and namespaces and becomes the program; throws when the host is off. */
export function enterArgv(state: ClusterState, index: number, argv: readonly string[]): string[] {
  const host = hostName(index)
  const pid = powerPid(state.name, host)
  if (pid === undefined) throw new Error(`test host ${host} of ${state.name} is off`)
  const files = procsFiles(machineLayout(), hostCgroup(state.name, host))
  const joined = ['sh', join(import.meta.dirname, 'join.sh'), String(files.length), ...files]
  return [...joined, 'nsenter', '-t', String(pid), '-m', '-u', '-i', '-n', '-p', '-C', '--', ...argv]
}

export function testHost(state: ClusterState, index: number): TestHost {
  const name = hostName(index)
  const group = hostCgroup(state.name, name)
  const power = () => powerPid(state.name, name)
  const exec = async (argv: readonly string[], options: ExecOptions = {}) =>
    execute(enterArgv(state, index, argv), options)
  const run = async (argv: readonly string[], options?: ExecOptions) => {
    const { code, stdout, stderr } = await exec(argv, options)
    if (code !== 0)
      throw new Error(`${name}: ${argv.join(' ')}: exit code ${code}: ${(stderr || stdout).trim()}`)
    return stdout
  }
  const off = () => powerOff(state, index)
  const on = async () => {
    if (power() === undefined) await powerOn(state, index)
  }
  return {
    name,
    address: hostAddress(state.subnet, index),
    get pid() {
      return power()
    },
    get alive() {
      return power() !== undefined
    },
    up: on,
    exec,
    run,
    spawn: (argv, options = {}) => background(run, group, argv, options),
    readFile: path => run(['cat', '--', path]),
    async writeFile(path, content, options = {}) {
      const script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"'
      const mode = (options.mode ?? 0o644).toString(8)
      await run(['sh', '-c', script, 'write', path, mode], { input: content })
    },
    fetch: (path, options = {}) => fetchFrom(hostAddress(state.subnet, index), path, options),
    powerOff: off,
    async reboot() {
      await off()
      await on()
    },
    freeze: () => setFrozen(machineLayout(), group, true),
    thaw: () => setFrozen(machineLayout(), group, false),
  }
}

function fetchFrom(address: string, path: string, options: FetchOptions): Promise<Response> {
  const { port = 80, timeoutMs = fetchTimeoutMs, ...init } = options
  const deadline = AbortSignal.timeout(timeoutMs)
  const signal = init.signal ? AbortSignal.any([init.signal, deadline]) : deadline
  return fetch(new URL(path, `http://${address}:${port}`), { ...init, signal })
}

async function background(
  run: TestHost['run'],
  group: string,
  argv: readonly string[],
  options: SpawnOptions,
): Promise<BackgroundProcess> {
  const log = options.log ?? `/var/log/${basename(argv[0] ?? '')}.log`
  const script = `${codePath}/test/cluster/background.sh`
  const printed = await run(['sh', script, log, ...argv], options.env ? { env: options.env } : {})
  const pid = Number(printed.trim())
  const machinePid = await findMachinePid(group, pid)
  const identity = machinePid === undefined ? undefined : identityOf(machinePid)
  return {
    pid,
    machinePid,
    log,
    get alive() {
      return identity !== undefined && stillRuns(identity)
    },
    kill(signal = 'SIGTERM') {
      if (identity !== undefined && stillRuns(identity)) process.kill(identity.pid, signal)
    },
  }
}

/** NSpid lists a process's numbers from the machine's namespace inwards. */
async function findMachinePid(group: string, pid: number): Promise<number | undefined> {
  for (const candidate of await pidsIn(machineLayout(), group)) {
    const status = await readFile(`/proc/${candidate}/status`, 'utf8').catch(() => '')
    const numbers = /^NSpid:\s+(.*)$/m.exec(status)?.[1]?.split(/\s+/)
    if (numbers?.[1] === String(pid)) return candidate
  }
  return undefined
}

/** Runs an `enterArgv` line in a process group of its own, so that a deadline ends the program and not only nsenter. */
function execute(argv: readonly string[], options: ExecOptions): Promise<ExecResult> {
  const [file = '', ...args] = argv
  const child = spawn(file, args, { stdio: 'pipe', detached: true, env: { ...hostEnv, ...options.env } })
  const out: Buffer[] = []
  const err: Buffer[] = []
  let bytes = 0
  let stopped: Error | undefined
  const stop = (reason: string, cause?: unknown) => {
    stopped ??= new Error(`${args.slice(args.indexOf('--') + 1).join(' ')}: ${reason}`, { cause })
    killProcessGroup(child.pid)
  }
  const collect = (into: Buffer[]) => (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > execOutputBytesMax) stop(`printed more than ${execOutputBytesMax} bytes`)
    else into.push(chunk)
  }
  child.stdout.on('data', collect(out))
  child.stderr.on('data', collect(err))
  // A program may exit before it has read all its input; its exit code tells the story then, not EPIPE.
  child.stdin.on('error', () => undefined)
  child.stdin.end(options.input)
  const timeoutMs = options.timeoutMs ?? execTimeoutMs
  const timer = setTimeout(() => stop(`no end within ${timeoutMs} ms`), timeoutMs)
  const onAbort = () => stop('aborted', options.signal?.reason)
  options.signal?.addEventListener('abort', onAbort, { once: true })
  if (options.signal?.aborted) onAbort()
  return new Promise<ExecResult>((resolve, reject) => {
    let grace: NodeJS.Timeout | undefined
    child.once('error', reject)
    child.once('exit', () => {
      grace = setTimeout(() => {
        child.stdout.destroy()
        child.stderr.destroy()
      }, outputGraceMs)
    })
    child.once('close', (code, signal) => {
      clearTimeout(grace)
      if (stopped) reject(stopped)
      else {
        const [stdout, stderr] = [Buffer.concat(out).toString(), Buffer.concat(err).toString()]
        resolve({ code: exitCode(code, signal), stdout, stderr })
      }
    })
  }).finally(() => {
    clearTimeout(timer)
    options.signal?.removeEventListener('abort', onAbort)
  })
}

function killProcessGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (e) {
    if (!(e instanceof Error && 'code' in e && e.code === 'ESRCH')) throw e
  }
}

function exitCode(code: number | null, signal: NodeJS.Signals | null): number {
  return code ?? 128 + (signal === null ? 0 : (constants.signals[signal] ?? 0))
}
