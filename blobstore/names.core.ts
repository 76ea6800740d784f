// Object names as they come in a request's path. Pure. Called by `api.ts`.
import { errors } from './errors.ts'

/** Bytes; what an index entry of the name may have, with room to spare. */
export const nameBytesMax = 2_000

/** The tidy form of a path, as the original's mux redirects to: no `.`, `..`, `//`; still percent-encoded. */
export function cleanName(path: string): string {
  const out: string[] = []
  for (const segment of path.split('/')) {
    if (segment === '' || segment === '.') continue
    if (segment === '..') out.pop()
    else out.push(segment)
  }
  return `/${out.join('/')}`
}

/** The name an encoded path stands for. Throws BAD_NAME. */
export function toObjectName(path: string): string {
  let name: string
  try {
    name = decodeURIComponent(path)
  } catch (cause) {
    throw errors.BAD_NAME({ max: nameBytesMax }, { cause })
  }
  if (name.includes('\0') || Buffer.byteLength(name) > nameBytesMax)
    throw errors.BAD_NAME({ max: nameBytesMax })
  return name
}
