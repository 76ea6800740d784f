// Builds one layer after the other over what lies below it: decides, fetches packages, fills a tree, packs it.
// Invariant: a layer's file is complete under its final name before its record is stored.
import { createHash } from 'node:crypto'
import { access, mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, join, relative } from 'node:path'
import { canonicalJson } from '../pkg/ids/ids.ts'
import { squashRecipe, squashTree } from '../pkg/image/pack.ts'
import type { Apt } from './apt.ts'
import { installBundle } from './bundle.ts'
import { setUpDistribution } from './distribution.ts'
import { errors } from './errors.ts'
import { decideLayer, type LayerRecord, packageLines, parsePackageLines } from './plan.core.ts'
import { nodeBinary, steps } from './steps.ts'
import { type Store, writeWhole } from './store.ts'
import { checkMergedUsr, linkMergedUsr, prune, putFile, unlinkMergedUsr, unpack } from './tree.ts'
import type { LayerSpec, PackageVersion } from './types.ts'

/** A layer that takes longer says so now and then. */
const reminderMs = 15_000

export type Paths = {
  readonly repository: string
  readonly layers: string
  readonly bundles: string
  readonly trees: string
  readonly downloads: string
  readonly logs: string
}

export type LayerContext = {
  readonly paths: Paths
  readonly apt: Apt
  readonly store: Store
  /** Hashes of the bundles that are up to date on disk, by name. */
  readonly bundles: ReadonlyMap<string, string>
  /** State of apt's lists: where it is not the recorded one, newer packages may be there. */
  readonly aptStamp: string
  readonly refresh: boolean
  readonly say: (line: string) => void
}

export type LayerOutcome =
  | { readonly kind: 'kept' | 'built'; readonly record: LayerRecord; readonly ms: number }
  | { readonly kind: 'skipped'; readonly missing: readonly string[] }

/** Where a layer's squashfs file is. */
export function layerFile(paths: Paths, id: string): string {
  return join(paths.layers, `${id}.squashfs`)
}

/** Entry files and copied files of the table that do not exist (yet). */
export async function missingFiles(repository: string, spec: LayerSpec): Promise<readonly string[]> {
  const needed = [
    ...(spec.bundles ?? []).map(bundle => bundle.entry),
    ...(spec.files ?? []).flatMap(file => (file.kind === 'copy' ? [file.from] : [])),
  ]
  const absent = await Promise.all(
    needed.map(path =>
      access(join(repository, path)).then(
        () => [],
        () => [path],
      ),
    ),
  )
  return absent.flat()
}

/** Builds or keeps a layer whose lower layers are done. */
export async function provideLayer(
  spec: LayerSpec,
  below: readonly LayerRecord[],
  context: LayerContext,
): Promise<LayerOutcome> {
  const { paths, store } = context
  const missing = await missingFiles(paths.repository, spec)
  const record = store.layers[spec.name]
  const key = missing.length > 0 ? '' : await layerKey(spec, below, context)
  const found = record && (await stat(layerFile(paths, record.id)).catch(() => undefined))
  const asked = record?.key === key && found !== undefined && record.aptStamp !== context.aptStamp
  const resolvedNow = asked ? await resolveNow(spec, below, context) : undefined
  const decision = decideLayer({
    missing,
    key,
    record,
    length: found?.size,
    resolvedNow,
    refresh: context.refresh,
  })
  if (decision.kind === 'skip') return { kind: 'skipped', missing: decision.missing }
  if (decision.kind === 'keep' && record !== undefined) {
    if (resolvedNow !== undefined) store.layers[spec.name] = { ...record, aptStamp: context.aptStamp }
    return { kind: 'kept', record, ms: 0 }
  }
  const why = decision.kind === 'build' ? decision.why : ''
  const began = performance.now()
  const elapsed = () => `${((performance.now() - began) / 1000).toFixed(1)} s`
  context.say(`layer ${spec.name}: building (${why})`)
  const reminder = setInterval(
    () => context.say(`layer ${spec.name}: still building, ${elapsed()}`),
    reminderMs,
  )
  try {
    const built = await buildLayer(spec, key, below, context)
    store.layers[spec.name] = built
    context.say(`layer ${spec.name}: ${megabytes(built.length)} in ${elapsed()}`)
    return { kind: 'built', record: built, ms: performance.now() - began }
  } finally {
    clearInterval(reminder)
  }
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`
}

function packagesBelow(below: readonly LayerRecord[]): readonly PackageVersion[] {
  return below.flatMap(record => parsePackageLines(record.packages))
}

async function resolveNow(
  spec: LayerSpec,
  below: readonly LayerRecord[],
  { apt, say }: LayerContext,
): Promise<readonly string[] | undefined> {
  const source = spec.packages ?? spec.distribution
  if (source === undefined) return []
  return await apt.resolve(spec.name, source, packagesBelow(below)).then(packageLines, (e: Error) => {
    say(
      `layer ${spec.name}: kept as it is, since apt cannot tell whether there are newer packages: ${e.message}`,
    )
    return undefined
  })
}

/** Hash over everything that decides what the layer holds, except which package versions there are. */
async function layerKey(
  spec: LayerSpec,
  below: readonly LayerRecord[],
  { paths, store, bundles }: LayerContext,
): Promise<string> {
  const recipes = [
    ...(spec.packages ? ['tree.ts', 'apt.ts'] : []),
    ...(spec.distribution ? ['distribution.ts'] : []),
    ...(spec.steps ? ['steps.ts'] : []),
  ]
  const inputs = [
    ...recipes.map(name => join(import.meta.dirname, name)),
    ...(spec.steps?.includes('node-binary') ? [nodeBinary(paths.repository)] : []),
  ]
  for (const file of spec.files ?? [])
    if (file.kind === 'copy') inputs.push(...(await filesOf(join(paths.repository, file.from))))
  const hashes = await Promise.all(
    inputs.map(async path => {
      const mode = ((await stat(path)).mode & 0o777).toString(8)
      return `${relative(paths.repository, path)} ${mode} ${await store.hashOf(path)}`
    }),
  )
  const text = canonicalJson({
    spec,
    hashes: hashes.sort(),
    squash: squashRecipe,
    bundles: (spec.bundles ?? []).map(bundle => bundles.get(bundle.name) ?? ''),
    below: spec.packages ? below.flatMap(record => record.packages) : [],
  })
  return createHash('sha512-256').update(text).digest('hex')
}

async function filesOf(path: string): Promise<readonly string[]> {
  if ((await stat(path)).isFile()) return [path]
  const entries = await readdir(path, { withFileTypes: true, recursive: true })
  return entries.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name))
}

async function buildLayer(
  spec: LayerSpec,
  key: string,
  below: readonly LayerRecord[],
  context: LayerContext,
): Promise<LayerRecord> {
  // Files take the owners they have in the tree along into the layer.
  if (process.getuid?.() !== 0) throw errors.NOT_ROOT()
  const { paths } = context
  const tree = join(paths.trees, spec.name)
  await rm(tree, { recursive: true, force: true })
  await mkdir(tree, { recursive: true })
  const { packages, resolved } = await fillWithPackages(spec, tree, below, context)
  const { repository, downloads } = paths
  for (const step of spec.steps ?? []) await steps[step]({ tree, repository, downloads })
  for (const file of spec.files ?? []) await putFile(tree, repository, file)
  for (const bundle of spec.bundles ?? []) await installBundle(join(paths.bundles, bundle.name), tree)
  await checkMergedUsr(spec.name, tree)
  const packed = join(paths.trees, `${spec.name}.squashfs`)
  const layer = await squashTree(tree, packed)
  await rename(packed, layerFile(paths, layer.id))
  await writeWhole(join(paths.layers, `${layer.id}.json`), `${JSON.stringify(layer)}\n`)
  await rm(tree, { recursive: true, force: true })
  return { key, id: layer.id, length: layer.length, packages, resolved, aptStamp: context.aptStamp }
}

async function fillWithPackages(
  spec: LayerSpec,
  tree: string,
  below: readonly LayerRecord[],
  { apt, paths, say }: LayerContext,
): Promise<Pick<LayerRecord, 'packages' | 'resolved'>> {
  if (spec.distribution) {
    const resolved = await apt.resolve(spec.name, spec.distribution, [])
    say(`layer ${spec.name}: setting up a distribution with ${resolved.length} packages and more`)
    const installed = await setUpDistribution(
      spec.name,
      spec.distribution,
      tree,
      join(paths.logs, `${spec.name}.log`),
    )
    return { packages: packageLines(installed), resolved: packageLines(resolved) }
  }
  if (spec.packages) {
    const { packages, files } = await apt.fetch(spec.name, spec.packages, packagesBelow(below))
    const only = spec.packages.only ?? {}
    await linkMergedUsr(tree)
    await unpack(tree, files, deb => only[basename(deb).split('_')[0] ?? ''])
    await prune(tree, spec.packages.prune ?? [])
    if (!spec.mergedUsr) await unlinkMergedUsr(tree)
    return { packages: packageLines(packages), resolved: packageLines(packages) }
  }
  return { packages: [], resolved: [] }
}
