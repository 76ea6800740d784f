// Debian packages through this machine's own apt: its sources, keys, proxies and package lists. Only reads apt's lists
// and writes in the directory it is given; the packages installed on the machine play no part (an empty status file
// stands in for them). Called by tree.ts and build.ts.
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { invariant } from '../pkg/errors/errors.ts'
import { RunError, run } from '../pkg/proc/run.ts'
import { errors } from './errors.ts'
import { matchesAny, parsePackageLines, parseSimulation } from './plan.core.ts'
import type { PackageSource, PackageVersion } from './types.ts'

const simulateTimeoutMs = 60_000
const downloadTimeoutMs = 10 * 60_000
const updateTimeoutMs = 5 * 60_000
/** Rounds of leaving out dependencies: each may bring an alternative that has to be left out too. */
const exclusionRoundsMax = 6

export type Apt = {
  /** What `source` needs beyond the packages in `below`, as far as apt's present lists know. */
  resolve(layer: string, source: PackageSource, below: readonly PackageVersion[]): Promise<Packages>
  /** `resolve`, and the .deb files, downloaded where they are not there yet. */
  fetch(
    layer: string,
    source: PackageSource,
    below: readonly PackageVersion[],
  ): Promise<{ readonly packages: Packages; readonly files: readonly string[] }>
  /** Removes downloaded files that belong to none of the packages (`name=version`). */
  forgetOthers(packages: readonly string[]): Promise<void>
}

type Packages = readonly PackageVersion[]

/** `<name>_<version>_`: how apt names the file, up to the architecture. */
function debPrefix(p: PackageVersion): string {
  return `${p.name}_${p.version.replaceAll(':', '%3a')}_`
}

/** Changes whenever apt's package lists or sources do. */
export async function aptStamp(): Promise<string> {
  const sum = createHash('sha512-256')
  for (const dir of ['/var/lib/apt/lists', '/etc/apt/sources.list.d', '/etc/apt', '/etc/apt/preferences.d']) {
    for (const name of (await readdir(dir).catch(() => [])).sort()) {
      const found = await stat(join(dir, name)).catch(() => undefined)
      if (found?.isFile() && name !== 'lock') sum.update(`${dir}/${name} ${found.size} ${found.mtimeMs}\n`)
    }
  }
  return sum.digest('hex')
}

const installedFields = /^(Package|Version|Architecture|Multi-Arch|Provides): /

/**
 * An entry of dpkg's status file for each package: the fields that matter to those that depend on it. An `absent` one
 * has a version no archive has, or apt would take the archive's for it and see to its dependencies.
 */
async function statusOf(packages: Packages, absent: boolean, options: readonly string[]): Promise<string> {
  if (packages.length === 0) return ''
  const show = (list: readonly string[]) =>
    run(['apt-cache', ...options, 'show', ...list], { timeoutMs: simulateTimeoutMs })
  // A version that apt's lists no longer hold is as good as the present one for what depends on it.
  const { stdout } = await show(packages.map(p => `${p.name}=${p.version}`)).catch(() =>
    show(packages.map(p => p.name)),
  )
  const entries = new Map<string, string>()
  for (const stanza of stdout.split('\n\n')) {
    const kept = stanza.split('\n').filter(line => installedFields.test(line))
    const name = kept.find(line => line.startsWith('Package: '))
    if (name === undefined || entries.has(name)) continue
    const lines = absent ? kept.map(line => (line.startsWith('Version: ') ? `${line}+absent` : line)) : kept
    entries.set(name, [...lines, 'Status: install ok installed', 'Description: -', '', ''].join('\n'))
  }
  return [...entries.values()].join('')
}

function reasonOf(e: unknown): string {
  if (!(e instanceof RunError)) return String(e)
  const lines = `${e.stdout}\n${e.stderr}`
    .split('\n')
    .filter(line => /^(E:|Err:|.*Depends:)/.test(line.trim()))
  return lines.slice(0, 3).join(' ').trim() || e.message
}

/** Apt with its caches in `dir`. */
export async function openApt(dir: string): Promise<Apt> {
  const debs = join(dir, 'debs')
  await mkdir(join(debs, 'partial'), { recursive: true })
  const common = [
    ...[
      '-o',
      'APT::Install-Recommends=false',
      '-o',
      'APT::Sandbox::User=root',
      '-o',
      'Debug::NoLocking=true',
    ],
    ...['-o', `Dir::Cache::pkgcache=${join(dir, 'pkgcache.bin')}`],
    ...['-o', `Dir::Cache::srcpkgcache=${join(dir, 'srcpkgcache.bin')}`],
  ]
  const simulate = async (layer: string, install: readonly string[], status: string) => {
    const file = join(dir, `status-${layer}`)
    await writeFile(file, status)
    const options = [...common, '-o', `Dir::State::status=${file}`]
    const { stdout } = await run(['apt-get', ...options, '--simulate', '-y', 'install', ...install], {
      timeoutMs: simulateTimeoutMs,
    })
    return parseSimulation(stdout)
  }

  const resolve: Apt['resolve'] = async (layer, source, below) => {
    const absent = new Map<string, PackageVersion>()
    const only = Object.keys(source.only ?? {})
    for (let round = 0; round < exclusionRoundsMax; round++) {
      const present = below.filter(p => !p.partial)
      const status =
        (await statusOf(present, false, common)) + (await statusOf([...absent.values()], true, common))
      const found = source.install.length === 0 ? [] : await simulate(layer, source.install, status)
      const more = found.filter(
        p => matchesAny(p.name, source.without ?? []) && !source.install.includes(p.name),
      )
      for (const p of more) absent.set(p.name, p)
      if (more.length > 0) continue
      // Of these a few files are taken; what those need is named in `install`.
      const parts = only.length === 0 ? [] : await simulate(layer, only, '')
      const taken = parts.filter(p => only.includes(p.name) && !found.some(f => f.name === p.name))
      return [...found, ...taken.map(p => ({ ...p, partial: true }))]
    }
    throw new Error(`dependencies to leave out do not come to an end: ${[...absent.keys()].join(' ')}`)
  }

  const download = async (layer: string, packages: Packages) => {
    const present = await readdir(debs)
    const lacking = packages.filter(p => !present.some(name => name.startsWith(debPrefix(p))))
    if (lacking.length === 0) return
    const partial = join(debs, `partial-${layer}`)
    await rm(partial, { recursive: true, force: true })
    await mkdir(partial)
    await run(['apt-get', ...common, '-q', 'download', ...lacking.map(p => `${p.name}=${p.version}`)], {
      cwd: partial,
      timeoutMs: downloadTimeoutMs,
    })
    for (const name of await readdir(partial)) await rename(join(partial, name), join(debs, name))
    await rm(partial, { recursive: true, force: true })
  }

  const fetch: Apt['fetch'] = async (layer, source, below) => {
    const packages = await resolve(layer, source, below).catch((cause: unknown) => {
      throw errors.PACKAGES_UNRESOLVED({ layer, reason: reasonOf(cause) }, { cause })
    })
    await download(layer, packages).catch((cause: unknown) => {
      throw errors.DOWNLOAD_FAILED({ layer, reason: reasonOf(cause) }, { cause })
    })
    const names = await readdir(debs)
    const files = packages.flatMap(p => names.filter(name => name.startsWith(debPrefix(p))))
    invariant(files.length === packages.length, 'one_file_a_package', { layer, files, packages })
    return { packages, files: files.map(name => join(debs, name)) }
  }

  let last: Promise<unknown> = Promise.resolve()
  /** Apt's caches in `dir` belong to one apt at a time. */
  const oneByOne = <T>(work: () => Promise<T>): Promise<T> => {
    const next = last.then(work)
    last = next.catch(() => undefined)
    return next
  }

  let updated: Promise<unknown> | undefined
  return {
    resolve: (layer, source, below) => oneByOne(() => resolve(layer, source, below)),

    async fetch(layer, source, below) {
      try {
        return await oneByOne(() => fetch(layer, source, below))
      } catch (first) {
        // Lists that are absent or older than the mirror are the usual fault: they are fetched anew, once.
        updated ??= run(['apt-get', 'update', '-q'], { timeoutMs: updateTimeoutMs })
        await updated.catch(() => {
          throw first
        })
        return await oneByOne(() => fetch(layer, source, below))
      }
    },

    async forgetOthers(packages) {
      const wanted = new Set(parsePackageLines(packages).map(p => debPrefix(p).slice(0, -1)))
      for (const name of await readdir(debs)) {
        if (name.endsWith('.deb') && !wanted.has(name.slice(0, name.lastIndexOf('_'))))
          await rm(join(debs, name))
      }
    },
  }
}

/** Files of this machine that list package sources and are in use. */
export async function sourceFiles(): Promise<readonly string[]> {
  const parts = await readdir('/etc/apt/sources.list.d').catch(() => [])
  const candidates = [
    '/etc/apt/sources.list',
    ...parts
      .filter(name => /\.(list|sources)$/.test(name))
      .sort()
      .map(name => join('/etc/apt/sources.list.d', name)),
  ]
  const used: string[] = []
  for (const path of candidates) {
    const text = await readFile(path, 'utf8').catch(() => '')
    if (/^\s*(deb|Types:)\b/m.test(text)) used.push(path)
  }
  return used
}
