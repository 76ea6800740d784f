// What to build and why: pure decisions over what is wanted, what was recorded at the last build, and what lies on
// disk. Called by build.ts; runs under no clock and touches no file.
import type { ImageSpec, LayerSpec, PackageVersion } from './types.ts'

export type BundleRecord = {
  /** Hash of how bundles are made. */
  readonly recipe: string
  /** The version it says it has, if it says so. */
  readonly version: string
  /** Path in the repository to content hash, of everything that went into the bundle. */
  readonly inputs: Readonly<Record<string, string>>
  /** Hash over the bundle and the files beside it. */
  readonly output: string
}

export type LayerRecord = {
  readonly key: string
  readonly id: string
  readonly length: number
  /** `name=version` of every package that went in, sorted. */
  readonly packages: readonly string[]
  /** What apt would have installed when the layer was built: compared with what it would install now. */
  readonly resolved: readonly string[]
  /** State of apt's lists when `resolved` was last known to be what apt would install. */
  readonly aptStamp: string
}

export type Decision =
  | { readonly kind: 'keep' }
  | { readonly kind: 'build'; readonly why: string }
  | { readonly kind: 'skip'; readonly missing: readonly string[] }

export type LayerFacts = {
  /** Entry files and copied files of the table that do not exist. */
  readonly missing: readonly string[]
  readonly key: string
  readonly record: LayerRecord | undefined
  /** Bytes of the layer file on disk; undefined when it is not there. */
  readonly length: number | undefined
  /** What apt would install now; undefined when it was not asked, because its lists are the same or absent. */
  readonly resolvedNow: readonly string[] | undefined
  readonly refresh: boolean
}

/** Whether a layer is left out, kept or built. */
export function decideLayer(facts: LayerFacts): Decision {
  if (facts.missing.length > 0) return { kind: 'skip', missing: facts.missing }
  const { record } = facts
  if (record === undefined) return { kind: 'build', why: 'first build' }
  if (facts.length !== record.length) return { kind: 'build', why: 'its file is gone' }
  if (facts.key !== record.key) return { kind: 'build', why: 'its inputs changed' }
  if (facts.refresh && record.packages.length > 0) return { kind: 'build', why: 'asked to' }
  if (facts.resolvedNow !== undefined && facts.resolvedNow.join() !== record.resolved.join())
    return { kind: 'build', why: 'newer packages' }
  return { kind: 'keep' }
}

export type BundleFacts = {
  readonly recipe: string
  readonly version: string
  readonly record: BundleRecord | undefined
  /** Content hashes now, of the inputs recorded; a file that is gone is absent. */
  readonly inputsNow: Readonly<Record<string, string>>
  /** Hash over what is on disk of the bundle's output; undefined when some of it is gone. */
  readonly outputNow: string | undefined
}

/** The module that tells a program its version; bundles without it do not change with the version. */
const versionSource = 'pkg/version/version.ts'

/** Whether a bundle has to be made anew. */
export function bundleIsStale(facts: BundleFacts): boolean {
  const { record } = facts
  if (record === undefined || record.recipe !== facts.recipe || record.output !== facts.outputNow) return true
  if (versionSource in record.inputs && record.version !== facts.version) return true
  return Object.entries(record.inputs).some(([path, hash]) => facts.inputsNow[path] !== hash)
}

/** The layers that the named images and layers need, lower ones before those over them; all when nothing is named. */
export function wantedLayers(
  layers: readonly LayerSpec[],
  images: readonly ImageSpec[],
  only: readonly string[],
): { readonly layers: readonly LayerSpec[]; readonly unknown: readonly string[] } {
  const byName = new Map(layers.map(layer => [layer.name, layer]))
  const chosen = new Set<LayerSpec>()
  const take = (name: string) => {
    const layer = byName.get(name)
    if (layer === undefined || chosen.has(layer)) return
    for (const below of layer.over ?? []) take(below)
    chosen.add(layer)
  }
  const unknown = only.filter(name => !byName.has(name) && !images.some(image => image.name === name))
  const names = only.length === 0 ? [...layers, ...images].map(each => each.name) : only
  for (const name of names) {
    take(name)
    for (const below of images.find(image => image.name === name)?.layers ?? []) take(below)
  }
  return { layers: [...chosen], unknown }
}

/** `name=version`, with ` partial` where that is so, in a fixed order. */
export function packageLines(packages: readonly PackageVersion[]): readonly string[] {
  return packages.map(p => `${p.name}=${p.version}${p.partial ? ' partial' : ''}`).sort()
}

/** The reverse of `packageLines`. */
export function parsePackageLines(lines: readonly string[]): readonly PackageVersion[] {
  return lines.map(line => {
    const [, name = '', version = '', partial] = /^([^=]+)=(\S+)( partial)?$/.exec(line) ?? []
    return { name, version, ...(partial === undefined ? {} : { partial: true }) }
  })
}

/** Whether a package name matches one of the patterns (`*` stands for any characters). */
export function matchesAny(name: string, patterns: readonly string[]): boolean {
  return patterns.some(pattern => {
    const parts = pattern.split('*').map(part => part.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&'))
    return new RegExp(`^${parts.join('.*')}$`).test(name)
  })
}

/** The `Inst` lines of `apt-get --simulate install`: what would be installed. */
export function parseSimulation(output: string): readonly PackageVersion[] {
  const found: PackageVersion[] = []
  for (const line of output.split('\n')) {
    const [, name, version] = /^Inst (\S+) \((\S+) .*\)/.exec(line) ?? []
    if (name && version) found.push({ name: name.replace(/:\w+$/, ''), version })
  }
  return found
}
