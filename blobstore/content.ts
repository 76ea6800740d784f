// Content of objects in PostgreSQL's large objects, read and written in chunks, so that memory does not grow with the
// object. Runs inside a transaction of `session.ts`.
import { createHash, type Hash } from 'node:crypto'
import type { ClientBase } from 'pg'
import type { ByteRange } from './conditions.core.ts'
import { errors } from './errors.ts'

/** One transfer holds two or three of these. */
export const chunkBytes = 256 * 1024
/** A size that is surely a mistake; PostgreSQL's own limit is 4 TiB. */
export const blobBytesMax = 64 * 1024 ** 3

export async function createContent(client: ClientBase): Promise<number> {
  const { rows } = await client.query<{ oid: number }>('SELECT lo_create(0) AS oid')
  return Number(rows[0]?.oid)
}

/** Bytes of an object; the consumer sets the pace. */
export async function* readContent(
  client: ClientBase,
  oid: number,
  { start, length }: ByteRange,
): AsyncGenerator<Buffer> {
  const end = start + length
  for (let at = start; at < end; ) {
    const { rows } = await client.query<{ data: Buffer }>('SELECT lo_get($1, $2, $3) AS data', [
      oid,
      at,
      Math.min(chunkBytes, end - at),
    ])
    const data = rows[0]?.data
    if (data === undefined || data.length === 0)
      throw new Error(`large object ${oid} ends at ${at}, not ${end}`)
    at += data.length
    yield data
  }
}

/** Joins what arrives into pieces of at least `chunkBytes`, so that small reads do not become small writes. */
async function* inChunks(body: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let pieces: Uint8Array[] = []
  let bytes = 0
  for await (const piece of body) {
    pieces.push(piece)
    bytes += piece.length
    if (bytes < chunkBytes) continue
    yield Buffer.concat(pieces)
    pieces = []
    bytes = 0
  }
  if (bytes > 0) yield Buffer.concat(pieces)
}

/** Writes `body` from `offset` on and adds it to the hash; answers the object's size after it. */
export async function writeContent(
  client: ClientBase,
  oid: number,
  options: { readonly offset: number; readonly hash: Hash; readonly body: AsyncIterable<Uint8Array> },
): Promise<number> {
  let at = options.offset
  for await (const chunk of inChunks(options.body)) {
    if (at + chunk.length > blobBytesMax) throw errors.TOO_BIG({ max: blobBytesMax })
    options.hash.update(chunk)
    await client.query('SELECT lo_put($1, $2, $3)', [oid, at, chunk])
    at += chunk.length
  }
  return at
}

/** The hash of what is stored: needed to go on from it, because the state of a hash cannot be kept. */
export async function hashContent(client: ClientBase, oid: number, size: number): Promise<Hash> {
  const hash = createHash('sha512')
  for await (const chunk of readContent(client, oid, { start: 0, length: size })) hash.update(chunk)
  return hash
}

/** Copies inside the server: no byte of it comes here. */
export async function copyContent(
  client: ClientBase,
  source: number,
  target: number,
  size: number,
): Promise<void> {
  for (let at = 0; at < size; at += chunkBytes)
    await client.query('SELECT lo_put($1, $3, lo_get($2, $3, $4))', [target, source, at, chunkBytes])
}
