// Counts and hashes the bytes of a layer as they pass, and says whether they are what the manifest promised.
import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { Transform, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { engineErrors } from '../container/errors.ts'
import type { LayerRequest } from '../container/types.ts'
import { hashLengths } from './layer.core.ts'

const opensslNames: Readonly<Record<string, string>> = {
  sha256: 'sha256',
  sha512: 'sha512',
  sha512_256: 'sha512-256',
}

export type Verifier = {
  /** Passes bytes on; fails as soon as there are more than the layer may have. */
  readonly stream: Transform
  /** After the end: throws LAYER_SIZE or LAYER_HASH, or answers every hash computed. */
  finish(): Readonly<Record<string, string>>
}

export function verifier(layer: LayerRequest): Verifier {
  const hashes: (readonly [string, Hash])[] = Object.keys(layer.hashes)
    .filter(algorithm => Object.hasOwn(hashLengths, algorithm))
    .map(algorithm => [algorithm, createHash(opensslNames[algorithm] ?? algorithm)] as const)
  let bytes = 0
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      if (bytes > layer.sizeBytes)
        return done(engineErrors.LAYER_SIZE({ id: layer.id, actual: 'more', wanted: layer.sizeBytes }))
      for (const [, hash] of hashes) hash.update(chunk)
      done(null, chunk)
    },
  })
  return {
    stream,
    finish() {
      if (bytes !== layer.sizeBytes)
        throw engineErrors.LAYER_SIZE({ id: layer.id, actual: bytes, wanted: layer.sizeBytes })
      const found = Object.fromEntries(hashes.map(([algorithm, hash]) => [algorithm, hash.digest('hex')]))
      for (const [algorithm, hex] of Object.entries(found))
        if (hex !== layer.hashes[algorithm]?.toLowerCase())
          throw engineErrors.LAYER_HASH({ id: layer.id, algorithm })
      return found
    },
  }
}

/** Reads a file to its end and verifies it; answers its hashes. */
export async function verifyFile(
  path: string,
  layer: LayerRequest,
  signal: AbortSignal,
): Promise<Readonly<Record<string, string>>> {
  const check = verifier(layer)
  const file = createReadStream(path, { highWaterMark: 1024 * 1024 })
  // The bytes themselves are not needed, only what the verifier makes of them.
  const sink = new Writable({ write: (_chunk, _encoding, done) => done() })
  await pipeline(file, check.stream, sink, { signal })
  return check.finish()
}
