// Layers made from directories: squashfs with zstd level 1 (evidence: four times as fast as the default for a tenth
// more bytes), named by the SHA-512/256 of the file itself. `packLayer` is for what users bring (any account, filtered,
// owned by root); `squashTree` is for root file systems made as root (owners, modes and capabilities kept).
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream, type Stats } from 'node:fs'
import { lstat, open, readdir, readlink, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { pack as tarPack } from 'tar-stream'
import { isFlynnError } from '../errors/errors.ts'
import { RunError, run } from '../proc/run.ts'
import { errors } from './errors.ts'
import { makeLayer } from './image.ts'
import type { Layer } from './types.ts'

export const packTimeoutMs = 10 * 60_000
export const packFilesMax = 500_000
const stderrCharsMax = 4096

const compression = ['-comp', 'zstd', '-Xcompression-level', '1'] as const
const rootOwner = ['-root-mode', '755', '-root-uid', '0', '-root-gid', '0'] as const
const quiet = ['-noappend', '-no-progress', '-quiet', '-no-recovery', '-exit-on-error'] as const
/** Any fixed time does; squashfs-tools refuse these options beside the variable, so it is taken out of their way. */
const fixedTime = '1577836800'
const withoutEpoch = ['env', '-u', 'SOURCE_DATE_EPOCH'] as const

/** Changes when `squashTree` would pack the same tree differently. */
export const squashRecipe = [...compression, ...rootOwner, ...quiet, fixedTime].join(' ')

export type PackOptions = {
  /** True for paths to leave out (relative to the directory, `/` between names); a directory takes its contents along. */
  readonly exclude?: (path: string, isDirectory: boolean) => boolean
  /** Absolute path under which the contents lie in the layer, such as `/app`; the root when absent. */
  readonly prefix?: string
  /** Told of what a layer cannot hold (sockets, pipes, devices). */
  readonly onSkip?: (path: string) => void
  readonly signal?: AbortSignal
  readonly timeoutMs?: number
}

/** Hex SHA-512/256 and length in bytes of a file. */
export async function hashFile(path: string): Promise<{ readonly hash: string; readonly length: number }> {
  const sum = createHash('sha512-256')
  let length = 0
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    sum.update(chunk as Buffer)
    length += (chunk as Buffer).length
  }
  return { hash: sum.digest('hex'), length }
}

/**
 * Packs what is in `dir` as a squashfs file at `out` and describes it as a layer. Files belong to root, keep their
 * modification times and lose setuid bits; the same directory gives the same layer. `out` appears whole or not at all.
 */
export async function packLayer(dir: string, out: string, options: PackOptions = {}): Promise<Layer> {
  const found = await stat(dir).catch((cause: unknown) => {
    throw errors.NOT_A_DIRECTORY({ dir }, { cause })
  })
  if (!found.isDirectory()) throw errors.NOT_A_DIRECTORY({ dir })
  const partial = `${out}.partial`
  await rm(partial, { force: true })
  try {
    await tarToSquashfs(dir, partial, options)
    return await finish(partial, out)
  } finally {
    await rm(partial, { force: true })
  }
}

/**
 * Packs a root file system as it stands, with owners, modes, file capabilities and whiteouts; only times are fixed, so
 * that equal trees give equal layers. Needs to be root where files of other owners are in it.
 */
export async function squashTree(
  dir: string,
  out: string,
  options: { signal?: AbortSignal; timeoutMs?: number } = {},
): Promise<Layer> {
  const partial = `${out}.partial`
  await rm(partial, { force: true })
  const timing = ['-mkfs-time', fixedTime, '-all-time', fixedTime] as const
  try {
    await run(
      [...withoutEpoch, 'mksquashfs', dir, partial, ...compression, ...rootOwner, ...timing, ...quiet],
      {
        timeoutMs: options.timeoutMs ?? packTimeoutMs,
        ...(options.signal ? { signal: options.signal } : {}),
      },
    ).catch((e: unknown) => {
      // env exits with 127 where the program it should start is absent.
      if (e instanceof RunError && e.code === 127)
        throw errors.TOOL_MISSING({ tool: 'mksquashfs' }, { cause: e })
      throw e
    })
    return await finish(partial, out)
  } finally {
    await rm(partial, { force: true })
  }
}

async function finish(partial: string, out: string): Promise<Layer> {
  const file = await open(partial, 'r')
  await file.sync().finally(() => file.close())
  const { hash, length } = await hashFile(partial)
  await rename(partial, out)
  return makeLayer(hash, length)
}

type Entry =
  | { readonly kind: 'directory'; readonly name: string; readonly found: Stats }
  | { readonly kind: 'symlink'; readonly name: string; readonly found: Stats; readonly linkname: string }
  | { readonly kind: 'file'; readonly name: string; readonly found: Stats; readonly path: string }

/** All that goes into the layer, parents before children, names in byte order. */
async function collect(dir: string, options: PackOptions, signal: AbortSignal): Promise<readonly Entry[]> {
  const prefix = (options.prefix ?? '').split('/').filter(name => name !== '')
  const root = await stat(dir)
  const entries: Entry[] = prefix.map((_, depth) => ({
    kind: 'directory',
    name: prefix.slice(0, depth + 1).join('/'),
    found: root,
  }))
  const walk = async (below: string): Promise<void> => {
    const names = await readdir(join(dir, below), { withFileTypes: true })
    names.sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)))
    for (const each of names) {
      signal.throwIfAborted()
      const path = below === '' ? each.name : `${below}/${each.name}`
      if (options.exclude?.(path, each.isDirectory())) continue
      if (entries.length >= packFilesMax) throw errors.TOO_MANY_FILES({ dir, max: packFilesMax })
      const full = join(dir, path)
      const name = [...prefix, path].join('/')
      const found = await lstat(full)
      if (found.isDirectory()) {
        entries.push({ kind: 'directory', name, found })
        await walk(path)
      } else if (found.isSymbolicLink())
        entries.push({ kind: 'symlink', name, found, linkname: await readlink(full) })
      else if (found.isFile()) entries.push({ kind: 'file', name, found, path: full })
      else options.onSkip?.(path)
    }
  }
  await walk('')
  return entries
}

function seconds(found: Stats): number {
  return Math.max(1, Math.floor(found.mtimeMs / 1000))
}

async function tarToSquashfs(dir: string, out: string, options: PackOptions): Promise<void> {
  const timeout = AbortSignal.timeout(options.timeoutMs ?? packTimeoutMs)
  const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout
  const entries = await collect(dir, options, signal)
  const tool = startMksquashfs(dir, out, entries, signal)
  const tar = tarPack()
  const sent = pipeline(tar, tool.stdin, { signal })
  const filling = fillTar(tar, entries, signal).catch((e: Error) => {
    tar.destroy(e)
    throw e
  })
  // Where the tool ends early the filling waits for room that never comes: the failed sending ends it.
  const filled = Promise.race([filling, sent])
  const [end, fill] = await Promise.allSettled([tool.ended, filled, sent])
  // A file of the directory that could not be read names the cause best; else what the tool itself said.
  if (fill.status === 'rejected' && isFlynnError(fill.reason)) throw fill.reason
  if (end.status === 'rejected') throw end.reason
  if (fill.status === 'rejected') throw fill.reason
}

function startMksquashfs(dir: string, out: string, entries: readonly Entry[], signal: AbortSignal) {
  // squashfs-tools gives the root of a tar the time of day; the variable clamps it to the newest file's time.
  const epoch = entries.reduce((newest, entry) => Math.max(newest, seconds(entry.found)), 1)
  const child = spawn('mksquashfs', ['-', out, '-tar', ...compression, ...rootOwner, ...quiet], {
    stdio: ['pipe', 'ignore', 'pipe'],
    env: { ...process.env, LC_ALL: 'C', SOURCE_DATE_EPOCH: String(epoch) },
    signal,
    killSignal: 'SIGKILL',
  })
  let complaint = ''
  child.stderr.on('data', (chunk: Buffer) => {
    complaint = (complaint + chunk.toString()).slice(-stderrCharsMax)
  })
  const ended = new Promise<void>((resolve, reject) => {
    const fail = (reason: string, cause?: unknown) =>
      reject(errors.TOOL_FAILED({ tool: 'mksquashfs', dir, reason }, { cause }))
    child.once('error', (cause: NodeJS.ErrnoException) => {
      if (cause.code === 'ENOENT') reject(errors.TOOL_MISSING({ tool: 'mksquashfs' }, { cause }))
      else fail(signal.aborted ? String(signal.reason) : cause.message, cause)
    })
    child.once('close', code => {
      if (code === 0) resolve()
      else fail(complaint.trim().split('\n').at(-1) || `exit code ${code}`)
    })
  })
  return { stdin: child.stdin, ended }
}

type TarPack = ReturnType<typeof tarPack>
type Header = Parameters<TarPack['entry']>[0]

async function fillTar(tar: TarPack, entries: readonly Entry[], signal: AbortSignal): Promise<void> {
  for (const entry of entries) {
    signal.throwIfAborted()
    const mtime = new Date(seconds(entry.found) * 1000)
    const facts = { name: entry.name, mode: entry.found.mode & 0o777, mtime, uid: 0, gid: 0 }
    if (entry.kind === 'file') await addFile(tar, facts, entry.path, entry.found)
    else if (entry.kind === 'symlink')
      await addEntry(tar, { ...facts, type: 'symlink', linkname: entry.linkname })
    else await addEntry(tar, { ...facts, type: 'directory' })
  }
  tar.finalize()
}

function addEntry(tar: TarPack, header: Header): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error?: Error | null) => (error ? reject(error) : resolve())
    if (header.type === 'file') tar.entry(header, '', done)
    else tar.entry(header, done)
  })
}

async function addFile(tar: TarPack, facts: Header, path: string, found: Stats): Promise<void> {
  if (found.size === 0) return await addEntry(tar, { ...facts, type: 'file', size: 0 })
  const stored = Promise.withResolvers<void>()
  const entry = tar.entry({ ...facts, type: 'file', size: found.size }, error =>
    error ? stored.reject(error) : stored.resolve(),
  )
  // Reading stops at the size in the header: a file that grows meanwhile must not spoil the archive.
  const copied = pipeline(createReadStream(path, { end: found.size - 1 }), entry)
  const [copy] = await Promise.allSettled([copied, Promise.race([stored.promise, copied])])
  const after = await lstat(path)
  if (after.size !== found.size || after.mtimeMs !== found.mtimeMs) throw errors.FILE_CHANGED({ path })
  if (copy.status === 'rejected') throw copy.reason
}
