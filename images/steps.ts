// What is done to a layer's tree between unpacking and packing and that no table row can say.
// Each step leaves the same files for the same packages.
import { createHash } from 'node:crypto'
import {
  copyFile,
  glob,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { run } from '../pkg/proc/run.ts'
import { errors } from './errors.ts'
import type { StepName } from './types.ts'

const compileTimeoutMs = 5 * 60_000
const downloadTimeoutMs = 2 * 60_000

export type StepContext = {
  readonly tree: string
  readonly repository: string
  /** Kept between builds. */
  readonly downloads: string
}

const npmVersion = '11.21.2'
const npmIntegrity =
  'sha512-7HPApk+AflMUavSseL1Pm6CnYqMIHk53x+KmuhqmTDqPkjPMgxIpTPcTqsE91EKNw4gFBJV9fnXiSdGm1DXq9A=='

/** Where the node binary of this project's dependencies is. */
export function nodeBinary(repository: string): string {
  return join(repository, 'node_modules/node/bin/node')
}

async function addNode({ tree, repository }: StepContext): Promise<void> {
  await mkdir(join(tree, 'usr/bin'), { recursive: true })
  await copyFile(nodeBinary(repository), join(tree, 'usr/bin/node'))
}

/** A link for each applet whose name no package has taken. */
async function linkBusybox({ tree }: StepContext): Promise<void> {
  const busybox = join(tree, 'usr/bin/busybox')
  const { stdout } = await run([busybox, '--list'])
  const taken = new Set(await readdir(join(tree, 'usr/bin')))
  for (const name of await readdir(join(tree, 'usr/sbin')).catch(() => [])) taken.add(name)
  for (const applet of stdout.split('\n'))
    if (applet !== '' && !taken.has(applet)) await symlink('busybox', join(tree, 'usr/bin', applet))
}

async function matches(tree: string, pattern: string): Promise<readonly string[]> {
  const found: string[] = []
  for await (const path of glob(pattern, { cwd: tree })) found.push(path)
  return found.sort()
}

/** One file with all certificates, as update-ca-certificates would write it. */
async function bundleCertificates({ tree }: StepContext): Promise<void> {
  const found = await matches(tree, 'usr/share/ca-certificates/**/*.crt')
  const texts = await Promise.all(found.map(path => readFile(join(tree, path), 'utf8')))
  const target = join(tree, 'etc/ssl/certs/ca-certificates.crt')
  await mkdir(dirname(target), { recursive: true })
  await writeFile(target, texts.map(text => `${text.trimEnd()}\n`).join(''))
}

/** PostgreSQL's programs on the path, and `/usr/lib/postgresql/current`, so that nothing else names the version. */
async function linkPostgres({ tree }: StepContext): Promise<void> {
  const home = join(tree, 'usr/lib/postgresql')
  const versions = (await readdir(home)).filter(name => /^\d+$/.test(name))
  const [version] = versions
  if (version === undefined || versions.length > 1)
    throw new Error(`PostgreSQL versions: ${versions.join(' ')}`)
  await symlink(version, join(home, 'current'))
  for (const name of await readdir(join(home, version, 'bin'))) {
    const link = join(tree, 'usr/bin', name)
    await rm(link, { force: true })
    await symlink(`../lib/postgresql/current/bin/${name}`, link)
  }
}

/** Bytecode that is valid whatever the time of the source, because layers have all times fixed. */
async function compilePython({ tree }: StepContext): Promise<void> {
  const [python] = (await readdir(join(tree, 'usr/bin'))).filter(name => /^python3\.\d+$/.test(name))
  if (python === undefined) throw new Error('no python in the layer')
  const dirs = ['/usr/lib/python3', `/usr/lib/${python}`]
  const compile = ['-m', 'compileall', '--invalidation-mode', 'unchecked-hash', '-f', '-q'] as const
  // Exit code 1: Debian ships a few files that are not valid for this version of the language; they stay uncompiled.
  const limits = { timeoutMs: compileTimeoutMs, accept: [1] }
  const [libc] = await matches(tree, 'usr/lib/*-linux-gnu/libc.so.6')
  if (libc !== undefined) {
    await run(['chroot', tree, `/usr/bin/${python}`, ...compile, ...dirs], limits)
    return
  }
  // Without a C library of its own the layer's python runs on this machine's, which is of the same release.
  const libraries = await matches(tree, 'usr/lib/*-linux-gnu')
  const paths = ['-s', tree, '-p', '/', ...dirs.map(dir => join(tree, dir))]
  await run([join(tree, 'usr/bin', python), ...compile, ...paths], {
    ...limits,
    env: { PYTHONHOME: join(tree, 'usr'), LD_LIBRARY_PATH: libraries.map(dir => join(tree, dir)).join(':') },
  })
}

/** The npm package, from the registry this machine uses, checked against the hash above. */
async function addNpm({ tree, downloads }: StepContext): Promise<void> {
  const archive = join(downloads, `npm-${npmVersion}.tgz`)
  if ((await stat(archive).catch(() => undefined)) === undefined) {
    const partial = join(downloads, 'partial')
    await rm(partial, { recursive: true, force: true })
    await mkdir(partial, { recursive: true })
    await run(['npm', 'pack', `npm@${npmVersion}`, '--silent', '--pack-destination', partial], {
      cwd: downloads,
      timeoutMs: downloadTimeoutMs,
    })
    await rename(join(partial, `npm-${npmVersion}.tgz`), archive)
    await rm(partial, { recursive: true })
  }
  const digest = createHash('sha512')
    .update(await readFile(archive))
    .digest('base64')
  if (`sha512-${digest}` !== npmIntegrity) {
    await rm(archive)
    throw errors.NPM_MISMATCH()
  }
  const home = join(tree, 'usr/lib/node_modules/npm')
  await mkdir(home, { recursive: true })
  await run([
    'tar',
    '-xzf',
    archive,
    '-C',
    home,
    '--strip-components=1',
    '--no-same-owner',
    '--exclude=*/man',
  ])
  for (const name of ['npm', 'npx'])
    await symlink(`../lib/node_modules/npm/bin/${name}-cli.js`, join(tree, 'usr/bin', name))
}

export const steps: Readonly<Record<StepName, (context: StepContext) => Promise<void>>> = {
  'node-binary': addNode,
  'busybox-links': linkBusybox,
  'ca-bundle': bundleCertificates,
  'postgres-links': linkPostgres,
  'compile-python': compilePython,
  npm: addNpm,
}
