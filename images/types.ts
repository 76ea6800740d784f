// The words of the image table (manifest.ts): what a layer is made of and what an image is stacked from.
import type { Entrypoint } from '../pkg/image/types.ts'

export type Owner = { readonly uid: number; readonly gid: number }

/** Something put into a layer after its packages. `to` is an absolute path inside the layer. */
export type FileSpec =
  /** A file or a whole directory of this repository. */
  | { readonly kind: 'copy'; readonly to: string; readonly from: string; readonly mode?: number }
  | { readonly kind: 'text'; readonly to: string; readonly text: string; readonly mode?: number }
  /** Text added to a file that a package brought. */
  | { readonly kind: 'append'; readonly to: string; readonly text: string }
  | { readonly kind: 'link'; readonly to: string; readonly target: string }
  | { readonly kind: 'directory'; readonly to: string; readonly mode: number; readonly owner?: Owner }

/** A JavaScript bundle: `entry` and all it imports in one file, found as `/bin/<name>.mjs` in a layer. */
export type BundleSpec = {
  readonly name: string
  readonly entry: string
  /**
   * Modules behind `import()` stay in files of their own beside the entry, `<name>-<module>-<hash>.mjs`, so that a
   * program that needs few of them starts without reading the rest.
   */
  readonly split?: boolean
}

/** Work on the file tree of a layer that no table row can say; each is a function of steps.ts. */
export type StepName =
  | 'node-binary'
  | 'busybox-links'
  | 'ca-bundle'
  | 'postgres-links'
  | 'compile-python'
  | 'npm'

export type PackageSource = {
  /** Debian packages, taken with all that they depend on and the layers below lack. */
  readonly install: readonly string[]
  /** Dependencies left out, with what only they depend on: whole names, `*` for any characters. */
  readonly without?: readonly string[]
  /** Packages of which only these files are taken (glob patterns without leading slash). */
  readonly only?: Readonly<Record<string, readonly string[]>>
  /** Files of packages that are left out, beyond the documentation (glob patterns without leading slash). */
  readonly prune?: readonly string[]
}

export type LayerSpec = {
  readonly name: string
  /** Layers that lie below this one in every image, bottom first. */
  readonly over?: readonly string[]
  /** Holds the links /bin, /lib, /lib64, /sbin into /usr for the layers over it. */
  readonly mergedUsr?: boolean
  /** Unpacked without being configured: for layers that hold programs, not a distribution. */
  readonly packages?: PackageSource
  /** A distribution set up by mmdebstrap. */
  readonly distribution?: PackageSource
  readonly steps?: readonly StepName[]
  readonly files?: readonly FileSpec[]
  readonly bundles?: readonly BundleSpec[]
}

export type ImageSpec = {
  readonly name: string
  /** Names of layers, bottom first. */
  readonly layers: readonly string[]
  readonly entrypoints?: Readonly<Record<string, Entrypoint>>
}

export type PackageVersion = {
  readonly name: string
  readonly version: string
  /** Only some of its files are taken, so it does not count as present for the layers above. */
  readonly partial?: boolean
}
