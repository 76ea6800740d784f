// Wire types of images (contract host.md 4.6, system-apps.md 4.3, controller.md 2.4): an artifact points to a
// manifest, whose rootfs lists squashfs layers, bottom first. Shared by builder, host, controller and CLI.
import { type Static, Type } from 'typebox'

export const manifestType = 'application/vnd.flynn.image.manifest.v1+json'
export const layerType = 'application/vnd.flynn.image.squashfs.v1'
/** Entrypoint that serves every process type without one of its own. */
export const defaultEntrypoint = '_default'

export const StringMap = Type.Record(Type.String(), Type.String())

export const Layer = Type.Object({
  id: Type.String(),
  type: Type.String(),
  /** Bytes of the squashfs file. */
  length: Type.Integer({ minimum: 0 }),
  hashes: Type.Optional(StringMap),
  meta: Type.Optional(StringMap),
})
export type Layer = Readonly<Static<typeof Layer>>

export const Entrypoint = Type.Object({
  env: Type.Optional(StringMap),
  cwd: Type.Optional(Type.String()),
  args: Type.Optional(Type.Array(Type.String())),
  linux_capabilities: Type.Optional(Type.Array(Type.String())),
  uid: Type.Optional(Type.Integer({ minimum: 0, maximum: 0xffffffff })),
  gid: Type.Optional(Type.Integer({ minimum: 0, maximum: 0xffffffff })),
})
export type Entrypoint = Readonly<Static<typeof Entrypoint>>

export const Platform = Type.Object({ architecture: Type.String(), os: Type.String() })
export type Platform = Readonly<Static<typeof Platform>>

export const Rootfs = Type.Object({
  platform: Type.Optional(Platform),
  layers: Type.Optional(Type.Array(Layer)),
})
export type Rootfs = Readonly<Static<typeof Rootfs>>

export const Manifest = Type.Object({
  _type: Type.String(),
  meta: Type.Optional(StringMap),
  entrypoints: Type.Optional(Type.Record(Type.String(), Entrypoint)),
  rootfs: Type.Optional(Type.Array(Rootfs)),
})
export type Manifest = Readonly<Static<typeof Manifest>>

export const Artifact = Type.Object({
  id: Type.Optional(Type.String()),
  /** `flynn`; `docker` and `file` are legacy kinds. */
  type: Type.String(),
  uri: Type.String(),
  meta: Type.Optional(StringMap),
  manifest: Type.Optional(Manifest),
  hashes: Type.Optional(StringMap),
  /** Bytes of what lies at `uri`. */
  size: Type.Optional(Type.Integer({ minimum: 0 })),
  /** RFC 6570 template with the variable `id`. */
  layer_url_template: Type.Optional(Type.String()),
  created_at: Type.Optional(Type.String()),
})
export type Artifact = Readonly<Static<typeof Artifact>>

/** A layer as a host job names it (contract host.md 2.3). */
export const Mountspec = Type.Object({
  type: Type.String(),
  id: Type.String(),
  url: Type.Optional(Type.String()),
  size: Type.Optional(Type.Integer({ minimum: 0 })),
  hashes: Type.Optional(StringMap),
  meta: Type.Optional(StringMap),
})
export type Mountspec = Readonly<Static<typeof Mountspec>>

/** `images.json`: image name to artifact. */
export const Images = Type.Record(Type.String(), Artifact)
export type Images = Readonly<Static<typeof Images>>
