// Layers that a person's command line packs and uploads: streamed to the blobstore, checked against the id that they
// are named by, kept only when whole. Ours; the original took them through git and image pushes only.
import { createHash } from 'node:crypto'
import { type Readable, Transform } from 'node:stream'
import { BlobstoreClient } from '../../blobstore/client.ts'
import { errors } from '../errors.ts'
import { findApp } from './app-lookup.ts'
import { param, type Routes } from './context.ts'

export const layerBytesMax = 8 * 1024 ** 3

const idPattern = /^[0-9a-f]{64}$/

function layerName(id: string): string {
  if (!idPattern.test(id)) throw errors.LAYER_ID({ id })
  return `/slugs/layers/${id}.squashfs`
}

/** Passes bytes on and fails at their end when they are not what the id says, before the blobstore keeps them. */
function checked(id: string): Transform {
  const hash = createHash('sha512-256')
  let bytes = 0
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      hash.update(chunk)
      done(bytes > layerBytesMax ? errors.LAYER_TOO_BIG({ max: layerBytesMax }) : null, chunk)
    },
    flush(done) {
      const found = hash.digest('hex')
      done(found === id ? null : errors.LAYER_HASH({ id, found }))
    },
  })
}

export const layerRoutes: Routes = (server, ctx) => {
  const blobs = new BlobstoreClient()
  server.addContentTypeParser('application/octet-stream', (_req, payload, done) => done(null, payload))

  server.get('/apps/:app/layers/:id', async (req, reply) => {
    await findApp(ctx.db, param(req, 'app'))
    const id = param(req, 'id')
    const info = await blobs.head(layerName(id))
    if (!info) return reply.code(404).send()
    return { id, length: info.size }
  })

  server.put('/apps/:app/layers/:id', { bodyLimit: layerBytesMax }, async (req, reply) => {
    await findApp(ctx.db, param(req, 'app'))
    const id = param(req, 'id')
    const name = layerName(id)
    const check = checked(id)
    const source = req.body as Readable
    source.once('error', e => check.destroy(e))
    let refusal: Error | undefined
    check.once('error', e => {
      refusal = e
    })
    try {
      await blobs.put(name, source.pipe(check))
    } catch (e) {
      throw refusal ?? e
    }
    return reply.code(200).send()
  })
}
