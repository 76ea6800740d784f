// The file tree of a layer before it is packed: packages unpacked, files put in, what nobody reads taken out.
// Invariant: no layer holds a real /bin, /lib, /lib64 or /sbin, which would hide the links of the layers below.
import { spawn } from 'node:child_process'
import {
  appendFile,
  chmod,
  chown,
  cp,
  glob,
  lstat,
  mkdir,
  readdir,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { errors } from './errors.ts'
import type { FileSpec } from './types.ts'

const unpackTimeoutMs = 120_000
const mergedDirs = ['bin', 'lib', 'lib64', 'sbin'] as const

/** Documentation, translations and files for other service managers: nothing in a container reads them. */
const neverNeeded = [
  'usr/share/{man,info,locale,lintian,bug,bash-completion,zsh,fish,doc-base,menu,pixmaps,applications}',
  'usr/share/{apport,initramfs-tools,icons,metainfo}',
  'usr/lib/{systemd,sysusers.d,tmpfiles.d,modules-load.d,udev}',
  'usr/include',
  'etc/{init.d,rc?.d,cron.*,default,logrotate.d,systemd,apparmor.d,ufw,pam.d,insserv.conf.d,bash_completion.d}',
  'var/{cache,log}/*',
]

/** A path inside the layer as a path on disk; top-level directories that are links in Debian lead to /usr. */
export function inTree(tree: string, path: string): string {
  const parts = path.split('/').filter(part => part !== '')
  const merged = mergedDirs.some(dir => dir === parts[0])
  return join(tree, ...(merged ? ['usr'] : []), ...parts)
}

/** Links /bin, /lib, /lib64 and /sbin into /usr, as Debian and Ubuntu have them. */
export async function linkMergedUsr(tree: string): Promise<void> {
  for (const dir of mergedDirs) {
    await mkdir(join(tree, 'usr', dir), { recursive: true })
    await symlink(`usr/${dir}`, join(tree, dir))
  }
}

/** Takes the links out again: a layer over another one has them from below. */
export async function unlinkMergedUsr(tree: string): Promise<void> {
  for (const dir of mergedDirs) {
    await rm(join(tree, dir), { force: true })
    const real = join(tree, 'usr', dir)
    if ((await readdir(real)).length === 0) await rm(real, { recursive: true })
  }
}

/** Unpacks .deb files, all of each or only the files named for it. */
export async function unpack(
  tree: string,
  debs: readonly string[],
  only: (deb: string) => readonly string[] | undefined,
): Promise<void> {
  for (const deb of debs) await unpackOne(tree, deb, only(deb))
}

async function unpackOne(tree: string, deb: string, only: readonly string[] | undefined): Promise<void> {
  const members = only === undefined ? [] : ['--wildcards', ...only.map(path => `./${path}`)]
  const stdio = ['pipe', 'pipe', 'pipe'] as const
  const timeout = { timeout: unpackTimeoutMs, killSignal: 'SIGKILL' } as const
  const from = spawn('dpkg-deb', ['--fsys-tarfile', deb], { stdio: [...stdio], ...timeout })
  // dpkg-deb's own extraction would turn a link such as /lib into a directory.
  const argv = ['-x', '-C', tree, '-p', '--numeric-owner', '--keep-directory-symlink', ...members]
  const to = spawn('tar', argv, { stdio: [...stdio], ...timeout })
  // tar may close its input at the archive's end mark, ahead of the padding: what is left is read and dropped. The
  // exit codes tell whether all went well.
  to.stdin.on('error', () => from.stdout.resume())
  from.stdout.pipe(to.stdin)
  const ended = await Promise.allSettled([endOf(from, 'dpkg-deb', deb), endOf(to, 'tar', deb)])
  for (const end of ended) if (end.status === 'rejected') throw end.reason
}

function endOf(child: ReturnType<typeof spawn>, tool: string, deb: string): Promise<void> {
  let complaint = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    complaint = (complaint + chunk.toString()).slice(-1000)
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', code => {
      if (code === 0) resolve()
      else reject(new Error(`${tool} of ${deb}: ${complaint.trim() || `exit code ${code}`}`))
    })
  })
}

/** For programs without a distribution around them: removes what nothing reads, and what matches the patterns. */
export async function prune(tree: string, patterns: readonly string[]): Promise<void> {
  await removeMatches(tree, [...neverNeeded, ...patterns])
  await pruneDocumentation(tree)
}

/** Removes the files and directories that match glob patterns. */
export async function removeMatches(tree: string, patterns: readonly string[]): Promise<void> {
  for (const pattern of patterns)
    for await (const path of glob(pattern, { cwd: tree }))
      await rm(join(tree, path), { recursive: true, force: true })
}

/** Of the documentation only the licences stay. */
export async function pruneDocumentation(tree: string): Promise<void> {
  const docs = join(tree, 'usr/share/doc')
  for await (const path of glob('**', { cwd: docs, withFileTypes: true }))
    if (!path.isDirectory() && path.name !== 'copyright') await rm(join(path.parentPath, path.name))
  await removeEmptyDirs(docs)
}

async function removeEmptyDirs(dir: string): Promise<boolean> {
  const entries = await readdir(dir, { withFileTypes: true }).catch(() => [])
  let empty = true
  for (const entry of entries)
    if (!entry.isDirectory() || !(await removeEmptyDirs(join(dir, entry.name)))) empty = false
  if (empty) await rm(dir, { recursive: true, force: true })
  return empty
}

/** Puts a file of the image table into the tree. */
export async function putFile(tree: string, repository: string, file: FileSpec): Promise<void> {
  const target = inTree(tree, file.to)
  await mkdir(dirname(target), { recursive: true })
  switch (file.kind) {
    case 'copy': {
      const filter = (path: string) => !path.endsWith('.md')
      await cp(join(repository, file.from), target, { recursive: true, filter, verbatimSymlinks: true })
      if (file.mode !== undefined) await chmod(target, file.mode)
      return
    }
    case 'text':
      await writeFile(target, file.text)
      await chmod(target, file.mode ?? 0o644)
      return
    case 'append':
      await appendFile(target, file.text)
      return
    case 'link':
      await rm(target, { force: true })
      await symlink(file.target, target)
      return
    case 'directory':
      await mkdir(target, { recursive: true })
      await chmod(target, file.mode)
      if (file.owner) await chown(target, file.owner.uid, file.owner.gid)
      return
    default:
      file satisfies never
  }
}

/** Refuses a tree that would hide the links of the layers below. */
export async function checkMergedUsr(layer: string, tree: string): Promise<void> {
  for (const dir of mergedDirs) {
    const found = await lstat(join(tree, dir)).catch(() => undefined)
    if (found?.isDirectory()) throw errors.SPLIT_USR({ layer, dir })
  }
}
