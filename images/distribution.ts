// A whole Debian or Ubuntu, set up by mmdebstrap from this machine's package sources. What tells of those sources
// (addresses, credentials, proxies) serves the build only and is not in the tree that it leaves.
import { spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from '../pkg/proc/run.ts'
import { sourceFiles } from './apt.ts'
import { errors } from './errors.ts'
import { pruneDocumentation, removeMatches } from './tree.ts'
import type { PackageSource, PackageVersion } from './types.ts'

const setUpTimeoutMs = 30 * 60_000
const queryTimeoutMs = 30_000
/** Reported as the reason when mmdebstrap fails. */
const reasonLinesMax = 3

/** Exit code of unshare when the program it should start is absent. */
const notFoundCode = 127
/** Whatever mmdebstrap mounts in the tree is gone with it, even when it is killed: the tree is removed later. */
const privateMounts = ['--mount', '--propagation', 'private', '--'] as const

/** Traces of the build and of the machine it ran on, and files for people who log in. */
const traces = [
  'etc/apt/sources.list',
  'etc/apt/sources.list.d',
  'etc/apt/auth.conf',
  'etc/apt/auth.conf.d',
  'etc/apt/apt.conf.d/99mmdebstrap',
  'etc/apt/preferences.d',
  'etc/dpkg/dpkg.cfg.d/99mmdebstrap',
  'etc/hostname',
  'etc/resolv.conf',
  'etc/machine-id',
  'var/lib/dbus/machine-id',
  'var/lib/apt/lists',
  'var/cache/apt',
  'var/cache/debconf/*-old',
  'var/cache/ldconfig',
  'var/lib/dpkg/*-old',
  'var/log',
  'tmp',
  'run',
] as const

async function codename(): Promise<string> {
  const text = await readFile('/etc/os-release', 'utf8')
  const name = /^VERSION_CODENAME="?(\w+)/m.exec(text)?.[1]
  if (name === undefined) throw new Error('/etc/os-release names no VERSION_CODENAME')
  return name
}

/** The machine's apt settings for fetching (proxies, checks of dates, TLS), as a file that mmdebstrap's apt reads. */
async function writeFetchSettings(path: string): Promise<void> {
  const { stdout } = await run(['apt-config', 'dump', 'Acquire'], { timeoutMs: queryTimeoutMs })
  const settings = stdout.split('\n').filter(line => /^Acquire::(?!IndexTargets|Languages|Gzip)/.test(line))
  await writeFile(path, `${settings.join('\n')}\n`, { mode: 0o600 })
}

/** Credentials for package sources; apt reads them from inside the tree while it is being set up. */
async function credentials(): Promise<readonly string[]> {
  const parts = await readdir('/etc/apt/auth.conf.d').catch(() => [])
  return parts.filter(name => name.endsWith('.conf')).map(name => join('/etc/apt/auth.conf.d', name))
}

/** Sets up `source` in the directory `tree`; returns every package in it. The output of the tools goes to `log`. */
export async function setUpDistribution(
  layer: string,
  source: PackageSource,
  tree: string,
  log: string,
): Promise<readonly PackageVersion[]> {
  const settings = `${tree}.apt.conf`
  await writeFetchSettings(settings)
  const keys = await credentials()
  const hooks = [
    ...(keys.length === 0 ? [] : ['--setup-hook=mkdir -p "$1/etc/apt/auth.conf.d"']),
    ...keys.map(path => `--setup-hook=copy-in ${path} /etc/apt/auth.conf.d`),
  ]
  const argv = [
    ...['--mode=root', '--format=directory', '--variant=minbase', `--include=${source.install.join(',')}`],
    ...[`--aptopt=${settings}`, '--aptopt=APT::Install-Recommends "false"', '--dpkgopt=force-unsafe-io'],
    ...hooks,
    ...[await codename(), tree, ...(await sourceFiles())],
  ]
  try {
    await mmdebstrap(layer, argv, log)
  } finally {
    await rm(settings, { force: true })
  }
  const packages = await installedIn(tree)
  await removeMatches(tree, [...traces, ...(source.prune ?? [])])
  await pruneDocumentation(tree)
  return packages
}

async function mmdebstrap(layer: string, argv: readonly string[], log: string): Promise<void> {
  const child = spawn('unshare', [...privateMounts, 'mmdebstrap', ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C.UTF-8', DEBIAN_FRONTEND: 'noninteractive' },
    timeout: setUpTimeoutMs,
  })
  const file = createWriteStream(log)
  const lines: string[] = []
  const collect = (chunk: Buffer) => {
    file.write(chunk)
    lines.push(
      ...chunk
        .toString()
        .split('\n')
        .filter(line => /^(E:|Err|dpkg: error)/.test(line)),
    )
  }
  child.stdout.on('data', collect)
  child.stderr.on('data', collect)
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  }).finally(() => file.end())
  if (code === 0) return
  if (code === notFoundCode) throw errors.TOOL_MISSING({ tool: 'mmdebstrap', package: 'mmdebstrap' })
  const reason = lines.slice(0, reasonLinesMax).join(' ') || `exit code ${code}`
  throw errors.DISTRIBUTION_FAILED({ layer, reason, log })
}

async function installedIn(tree: string): Promise<readonly PackageVersion[]> {
  // dpkg-query's default format: name (with architecture where it matters), tab, version.
  const { stdout } = await run(['dpkg-query', `--root=${tree}`, '--show'], {
    timeoutMs: queryTimeoutMs,
  })
  return stdout
    .trim()
    .split('\n')
    .map(line => {
      const [name = '', version = ''] = line.split('\t')
      return { name: name.replace(/:\w+$/, ''), version }
    })
}
