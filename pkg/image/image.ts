// Images as values: ids, the choice of an entrypoint, the layers a job mounts. No I/O.
// Called by the image builder, the controller (host jobs), bootstrap and `flynn deploy`.
import { canonicalJson, sha512_256 } from '../ids/hash.ts'
import {
  type Artifact,
  defaultEntrypoint,
  type Entrypoint,
  type Layer,
  layerType,
  type Manifest,
  type Mountspec,
  manifestType,
} from './types.ts'

/** Id of an image: hex SHA-512/256 of its canonical JSON (contract host.md 4.6). */
export function imageId(manifest: Manifest): string {
  return sha512_256(canonicalJson(manifest))
}

/** Bytes of the manifest's canonical JSON: an artifact's `size`. */
export function manifestSize(manifest: Manifest): number {
  return Buffer.byteLength(canonicalJson(manifest))
}

export type ManifestInput = {
  /** Bottom first. */
  readonly layers: readonly Layer[]
  readonly entrypoints?: Readonly<Record<string, Entrypoint>>
  readonly meta?: Readonly<Record<string, string>>
}

/** A manifest with one rootfs for linux/amd64; members that would be empty are left out. */
export function makeManifest(input: ManifestInput): Manifest {
  const entrypoints = input.entrypoints ?? {}
  const meta = input.meta ?? {}
  return {
    _type: manifestType,
    ...(Object.keys(meta).length === 0 ? {} : { meta }),
    ...(Object.keys(entrypoints).length === 0 ? {} : { entrypoints }),
    rootfs: [{ platform: { architecture: 'amd64', os: 'linux' }, layers: [...input.layers] }],
  }
}

/** A layer record for a squashfs file whose SHA-512/256 is `hash`: that hash is its id too. */
export function makeLayer(hash: string, length: number, meta?: Readonly<Record<string, string>>): Layer {
  return {
    id: hash,
    type: layerType,
    length,
    hashes: { sha512_256: hash },
    ...(meta === undefined ? {} : { meta }),
  }
}

export type ArtifactInput = {
  readonly manifest: Manifest
  readonly uri: string
  readonly layerUrlTemplate: string
  readonly meta?: Readonly<Record<string, string>>
}

/** A `flynn` artifact of a manifest; its hash and size are those of the manifest's canonical JSON. */
export function makeArtifact(input: ArtifactInput): Artifact {
  const id = imageId(input.manifest)
  return {
    type: 'flynn',
    uri: input.uri,
    meta: { ...input.meta, 'manifest.id': id },
    manifest: input.manifest,
    hashes: { sha512_256: id },
    size: manifestSize(input.manifest),
    layer_url_template: input.layerUrlTemplate,
  }
}

/**
 * The entrypoint of a process type: of the last `flynn` artifact that has one of that name, else of the last that has
 * `_default`; undefined when there is neither (contract controller.md 4.10).
 */
export function resolveEntrypoint(
  artifacts: readonly Artifact[],
  processType: string,
): Entrypoint | undefined {
  const images = artifacts.filter(a => a.type === 'flynn')
  for (const name of [processType, defaultEntrypoint]) {
    const holder = images.findLast(a => Object.hasOwn(a.manifest?.entrypoints ?? {}, name))
    if (holder) return holder.manifest?.entrypoints?.[name]
  }
  return undefined
}

/** The address of a layer; only `{id}` is expanded, which is all that any known template uses. */
export function layerUrl(template: string, layerId: string): string {
  return template.replaceAll('{id}', encodeURIComponent(layerId))
}

/** The squashfs layers a job mounts, bottom first: of `flynn` artifacts with exactly one rootfs (controller.md 4.10). */
export function mountspecs(artifacts: readonly Artifact[]): readonly Mountspec[] {
  return artifacts.flatMap(artifact => {
    const rootfs = artifact.manifest?.rootfs ?? []
    const only = rootfs[0]
    if (artifact.type !== 'flynn' || rootfs.length !== 1 || only === undefined) return []
    const template = artifact.layer_url_template
    return (only.layers ?? [])
      .filter(layer => layer.type === layerType)
      .map(layer => ({
        type: 'squashfs',
        id: layer.id,
        ...(template === undefined ? {} : { url: layerUrl(template, layer.id) }),
        size: layer.length,
        hashes: layer.hashes ?? {},
        meta: artifact.meta ?? {},
      }))
  })
}
