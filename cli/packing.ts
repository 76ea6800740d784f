// From a user's directory to a layer: dependencies installed when they are missing, ignored files left out, everything
// under /app. The directory itself is not changed.
import { cp, mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import ignore from 'ignore'
import { describeError } from '../pkg/errors/errors.ts'
import { packLayer } from '../pkg/image/pack.ts'
import type { Layer } from '../pkg/image/types.ts'
import { run } from '../pkg/proc/run.ts'
import { errors } from './errors.ts'
import type { PackageJson } from './procfile.ts'

export const appDir = '/app'
export const npmTimeoutMs = 10 * 60_000

type Excludes = (path: string, isDirectory: boolean) => boolean

async function rules(dir: string, name: string): Promise<string> {
  return await readFile(join(dir, name), 'utf8').catch(() => '')
}

/**
 * What .gitignore and .flynnignore leave out, and .git itself. Installed packages are part of what runs, so a
 * .gitignore that names node_modules does not keep them out; .flynnignore can.
 */
export async function excludesOf(dir: string): Promise<Excludes> {
  const git = ignore().add(await rules(dir, '.gitignore'))
  const own = ignore()
    .add(['.git', '.gitignore', '.flynnignore'])
    .add(await rules(dir, '.flynnignore'))
  return (path, isDirectory) => {
    const name = isDirectory ? `${path}/` : path
    if (own.ignores(name)) return true
    return !/(^|\/)node_modules(\/|$)/.test(name) && git.ignores(name)
  }
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  )
}

/** A copy of the directory with its npm dependencies, for one that lacks them. */
async function withDependencies(dir: string, staging: string, excludes: Excludes): Promise<string> {
  const copy = join(staging, 'app')
  await cp(dir, copy, {
    recursive: true,
    filter: async source => {
      const path = relative(dir, source)
      return path === '' || !excludes(path, (await stat(source)).isDirectory())
    },
  })
  const locked = await exists(join(copy, 'package-lock.json'))
  const words = [
    'npm',
    // The lock names each version and its hash: what is in the cache need not be asked about again.
    ...(locked ? ['ci', '--prefer-offline'] : ['install']),
    '--omit=dev',
    '--no-fund',
    '--no-audit',
    '--loglevel=error',
  ] as const
  await run([...words], { cwd: copy, timeoutMs: npmTimeoutMs }).catch(e => {
    throw errors.DEPLOY_NPM({ dir, reason: describeError(e) }, { cause: e })
  })
  return copy
}

export type Packed = { readonly layer: Layer; readonly file: string; cleanUp(): Promise<void> }

/** Packs a directory; `onInstall` is called when dependencies have to be installed first. */
export async function packApp(
  dir: string,
  pkg: PackageJson | undefined,
  onInstall: () => void,
): Promise<Packed> {
  const staging = await mkdtemp(join(tmpdir(), 'flynn-deploy-'))
  const cleanUp = () => rm(staging, { recursive: true, force: true })
  try {
    const exclude = await excludesOf(dir)
    const wanted = Object.keys(pkg?.dependencies ?? {}).length > 0
    const lacking = wanted && !(await exists(join(dir, 'node_modules')))
    if (lacking) onInstall()
    const source = lacking ? await withDependencies(dir, staging, exclude) : dir
    const file = join(staging, 'layer.squashfs')
    const layer = await packLayer(source, file, { prefix: appDir, exclude })
    return { layer, file, cleanUp }
  } catch (e) {
    await cleanUp()
    throw e
  }
}
