// What a layer request must hold, and where its bytes come from (contract host.md 4.5). Pure.
import { engineErrors } from '../container/errors.ts'
import type { LayerRequest } from '../container/types.ts'

/** Hash algorithms of layers, by their name in manifests, with their length in hex digits. */
export const hashLengths: Readonly<Record<string, number>> = { sha256: 64, sha512: 128, sha512_256: 64 }

/** No layer of an image is larger than this. */
export const layerBytesMax = 32 * 1024 ** 3

const idPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$/

/** Rejects with LAYER_INVALID what could not be verified: a layer is used only when every given hash matches. */
export function checkLayer(layer: LayerRequest): void {
  const fail = (reason: string) => engineErrors.LAYER_INVALID({ id: layer.id, reason })
  if (!idPattern.test(layer.id)) throw fail('the id is not a file name')
  if (!Number.isSafeInteger(layer.sizeBytes) || layer.sizeBytes <= 0) throw fail('it has no size')
  if (layer.sizeBytes > layerBytesMax) throw fail(`it is larger than ${layerBytesMax} bytes`)
  const known = Object.entries(layer.hashes).filter(([algorithm]) => Object.hasOwn(hashLengths, algorithm))
  if (known.length === 0) throw fail('it has no hash')
  for (const [algorithm, hex] of known)
    if (hex.length !== hashLengths[algorithm] || !/^[0-9a-f]+$/i.test(hex))
      throw fail(`bad ${algorithm} hash`)
}

export type LayerSource =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'http'; readonly url: URL; readonly discoverd: boolean }

/** Where a URL leads; undefined for schemes that we do not fetch. */
export function layerSource(text: string): LayerSource | undefined {
  if (!URL.canParse(text)) return undefined
  const url = new URL(text)
  if (url.protocol === 'file:') return { kind: 'file', path: decodeURIComponent(url.pathname) }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return undefined
  return { kind: 'http', url, discoverd: url.hostname.endsWith('.discoverd') }
}

/** What was verified about a cached file; the file is hashed again when any of it changes. */
export type LayerStamp = {
  readonly bytes: number
  readonly modifiedMs: number
  readonly inode: number
  readonly hashes: Readonly<Record<string, string>>
}

/** True when the stamp shows that this very file had every hash the request gives. */
export function isVerified(
  stamp: LayerStamp,
  file: Omit<LayerStamp, 'hashes'>,
  layer: LayerRequest,
): boolean {
  return (
    stamp.bytes === file.bytes &&
    stamp.modifiedMs === file.modifiedMs &&
    stamp.inode === file.inode &&
    Object.entries(layer.hashes).every(
      ([algorithm, hex]) =>
        !Object.hasOwn(hashLengths, algorithm) || stamp.hashes[algorithm] === hex.toLowerCase(),
    )
  )
}
