// The CLI as a person has it: the real program as a child, with a home directory and configuration of its own that
// name one cluster. Standard output, standard error and exit code are told apart.
import { spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Cluster, renderConfig } from '../../cli/config.ts'
import { makeBundle } from '../../images/bundle.ts'
import { run as runProgram } from '../../pkg/proc/run.ts'

const repository = fileURLToPath(new URL('../..', import.meta.url))
let bundle: Promise<string> | undefined

/** The program as it is installed, made once for each test process: it starts several times faster than its sources. */
function programFile(): Promise<string> {
  bundle ??= (async () => {
    const dir = await mkdtemp(join(tmpdir(), 'flynn-cli-bundle-'))
    process.once('exit', () => rmSync(dir, { recursive: true, force: true }))
    await makeBundle(
      { name: 'flynn', entry: 'cli/main.ts', split: true },
      repository,
      join(dir, 'flynn'),
      'dev',
    )
    return join(dir, 'flynn', 'flynn.mjs')
  })()
  return bundle
}

export const commandTimeoutMs = 90_000

export type Outcome = { readonly code: number | null; readonly stdout: string; readonly stderr: string }

export type RunOptions = {
  /** Absent: an input that has ended. `open`: one that never says anything and never ends. */
  readonly input?: string | Uint8Array | 'open'
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  /** Called with each piece of output, what signals the program, and what types into an input that is open. */
  readonly onOutput?: (
    text: string,
    kill: (signal: NodeJS.Signals) => void,
    type: (text: string) => void,
  ) => void
}

export type Session = {
  readonly home: string
  readonly configPath: string
  flynn(args: readonly string[], options?: RunOptions): Promise<Outcome>
  /** On a terminal, with what is typed there; both streams come as one. */
  onTerminal(args: readonly string[], typed: string): Promise<Outcome>
  /** Standard output of a command that must succeed. */
  ok(args: readonly string[], options?: RunOptions): Promise<string>
  /** The same with --json, parsed. */
  json<T = unknown>(args: readonly string[], options?: RunOptions): Promise<T>
  remove(): Promise<void>
}

export function clusterAt(url: string, key: string): Cluster {
  return {
    Name: 'test',
    Key: key,
    ControllerURL: url,
    GitURL: 'https://git.test',
    ImageURL: 'https://images.test',
  }
}

export async function startSession(cluster?: Cluster): Promise<Session> {
  const home = await mkdtemp(join(tmpdir(), 'flynn-cli-'))
  const configPath = join(home, '.flynnrc')
  if (cluster) await writeFile(configPath, renderConfig({ default: cluster.Name, clusters: [cluster] }))
  const program = await programFile()
  const base = { PATH: process.env['PATH'] ?? '', HOME: home, FLYNNRC: configPath, NODE_NO_WARNINGS: '1' }
  const flynn = (args: readonly string[], options: RunOptions = {}) =>
    start([process.execPath, program, ...args], options)
  const onTerminal = (args: readonly string[], typed: string) => {
    const line = [process.execPath, program, ...args].map(word => `'${word}'`).join(' ')
    return start(['script', '-qec', line, '/dev/null'], { input: typed })
  }
  function start([file = '', ...args]: readonly string[], options: RunOptions): Promise<Outcome> {
    const child = spawn(file, args, {
      cwd: options.cwd ?? home,
      env: { ...base, GIT_CEILING_DIRECTORIES: tmpdir(), ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    const timer = setTimeout(() => child.kill('SIGKILL'), commandTimeoutMs)
    // A program may end without having read its input.
    child.stdin.on('error', () => undefined)
    if (options.input !== 'open') child.stdin.end(options.input)
    const texts = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr'] as const)
      child[name].on('data', chunk => {
        texts[name] += String(chunk)
        options.onOutput?.(
          String(chunk),
          signal => child.kill(signal),
          text => child.stdin.write(text),
        )
      })
    return new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', code => {
        clearTimeout(timer)
        child.stdin.destroy()
        resolve({ code, ...texts })
      })
    })
  }
  async function ok(args: readonly string[], options?: RunOptions): Promise<string> {
    const { code, stdout, stderr } = await flynn(args, options)
    if (code !== 0) throw new Error(`flynn ${args.join(' ')}: exit code ${code}: ${stderr}${stdout}`)
    return stdout
  }
  return {
    home,
    configPath,
    flynn,
    onTerminal,
    ok,
    json: async <T>(args: readonly string[], options?: RunOptions) =>
      JSON.parse(await ok([...args, '--json'], options)) as T,
    remove: () => rm(home, { recursive: true, force: true }),
  }
}

/** A git repository without remotes. */
export async function makeRepository(dir: string): Promise<string> {
  await runProgram(['git', 'init', '-q', dir])
  return dir
}

export async function gitConfig(dir: string, name: string): Promise<string> {
  return (await runProgram(['git', '-C', dir, 'config', name], { accept: [1] })).stdout.trim()
}

/** Every example of the documentation is a table row: cells between two or more spaces. */
export function cells(line: string | undefined): readonly string[] {
  return (line ?? '').trimEnd().split(/ {2,}/)
}
