// What a build remembers for the next one (build/images/cache.json), and hashes of files that are read once as long
// as they look the same (size, time, inode).
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { hashFile } from '../pkg/image/pack.ts'
import type { BundleRecord, LayerRecord } from './plan.core.ts'

const formatVersion = 1

type FileMark = { readonly mark: string; readonly hash: string }

type Contents = {
  format: number
  bundles: Record<string, BundleRecord>
  layers: Record<string, LayerRecord>
  files: Record<string, FileMark>
}

export type Store = {
  readonly bundles: Record<string, BundleRecord>
  readonly layers: Record<string, LayerRecord>
  /** Hash of a file; undefined when it is not there. */
  hashOf(path: string): Promise<string | undefined>
  /** To be called after a file was written within this build. */
  forget(path: string): void
  save(): Promise<void>
}

/** Reads the record of the last build; an unreadable one counts as none, and everything is built anew. */
export async function openStore(path: string): Promise<Store> {
  const read = await readFile(path, 'utf8').then(
    text => parse(text),
    () => undefined,
  )
  const contents = read ?? { format: formatVersion, bundles: {}, layers: {}, files: {} }
  const underWay = new Map<string, Promise<string | undefined>>()
  const hashNow = async (file: string) => {
    const found = await stat(file).catch(() => undefined)
    if (!found?.isFile()) return undefined
    const mark = `${found.size} ${found.mtimeMs} ${found.ctimeMs} ${found.ino}`
    const known = contents.files[file]
    if (known?.mark === mark) return known.hash
    const { hash } = await hashFile(file)
    contents.files[file] = { mark, hash }
    return hash
  }
  return {
    bundles: contents.bundles,
    layers: contents.layers,
    hashOf(file) {
      const going = underWay.get(file) ?? hashNow(file)
      underWay.set(file, going)
      return going
    },
    forget(file) {
      underWay.delete(file)
    },
    save: () => writeWhole(path, `${JSON.stringify(contents, null, 1)}\n`),
  }
}

function parse(text: string): Contents | undefined {
  try {
    const read = JSON.parse(text) as Contents
    return read.format === formatVersion ? read : undefined
  } catch {
    return undefined
  }
}

/** Writes a file that appears whole or not at all. */
export async function writeWhole(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(`${path}.partial`, text)
  await rename(`${path}.partial`, path)
}

/** Removes files of a directory that `keep` does not want. */
export async function sweep(dir: string, keep: (name: string) => boolean): Promise<void> {
  for (const name of await readdir(dir).catch(() => []))
    if (!keep(name)) await rm(join(dir, name), { recursive: true, force: true })
}
