// Volumes between hosts over HTTP (contract host.md 2.1, 4.4): `pull_snapshot` and `send` as in the original, the rest is
// ours. Streams pass through without being held: moves.ts and transfer.ts say how they end.
import { pipeline } from 'node:stream/promises'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { Value } from 'typebox/value'
import { httpErrors, type Server, startSse, wantsSse } from '../../pkg/httpd/httpd.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { SseWriter } from '../../pkg/sse/sse.ts'
import type { Volume } from '../container/types.ts'
import { hostErrors } from '../errors.ts'
import {
  ActivateRequest,
  finalSnapshotHeader,
  MarkRequest,
  PullCoordinate,
  type PullProgress,
  RetireRequest,
  SnapshotHave,
  snapshotStreamType,
  type VolumeInfo,
} from '../types.ts'
import { streamSilenceMaxMs, type VolumeMoves } from './moves.ts'

export const havesBytesMax = 64 * 1024
const progressEveryMs = 500

export type MoveApiOptions = {
  readonly server: Server
  readonly moves: VolumeMoves
  readonly toInfo: (volume: Volume) => VolumeInfo
  readonly log: Logger
}

type Id = { Params: { id: string } }
const Haves = Type.Array(SnapshotHave, { maxItems: 1_000 })

/** The body of a GET, which no framework reads. */
async function readHaves(req: FastifyRequest): Promise<readonly string[]> {
  let text = ''
  for await (const chunk of req.raw) {
    text += String(chunk)
    if (text.length > havesBytesMax) throw hostErrors.HAVES()
  }
  if (text.trim() === '') return []
  try {
    const value: unknown = JSON.parse(text)
    if (Value.Check(Haves, value)) return value.map(h => h.snap_id)
  } catch (cause) {
    throw httpErrors.SYNTAX_ERROR({}, { cause })
  }
  throw hostErrors.HAVES()
}

function sendRoute({ server, moves, log }: MoveApiOptions): void {
  server.get<Id>('/storage/volumes/:id/send', async (req, reply) => {
    if (!(req.headers.accept ?? '').includes(snapshotStreamType))
      throw hostErrors.STREAM_TYPE({ type: snapshotStreamType })
    const { id } = req.params
    const { transfer, final } = moves.send(id, await readHaves(req))
    reply.hijack()
    const res = reply.raw
    // A reader that takes nothing for so long is gone.
    res.setTimeout(streamSilenceMaxMs, () => res.destroy())
    res.writeHead(200, {
      'content-type': snapshotStreamType,
      ...(final ? { [finalSnapshotHeader]: id } : {}),
    })
    try {
      await pipeline(transfer.stream, res)
    } catch (err) {
      // The answer is cut off, so that the reader knows that it has not all of it.
      res.destroy()
      log.warn({ snapshot: id, err }, 'snapshot was not sent to its end')
    }
    return reply
  })
}

function pullRoute({ server, moves, toInfo }: MoveApiOptions): void {
  server.post<Id>(
    '/storage/volumes/:id/pull_snapshot',
    { schema: { body: PullCoordinate } },
    async (req, reply) => {
      const { id } = req.params
      const gone = new AbortController()
      // Nobody waits for it any more: whoever asks next begins anew.
      reply.raw.once('close', () => gone.abort())
      if (!wantsSse(req)) {
        const { snapshot } = await moves.pull(id, req.body as PullCoordinate, gone.signal)
        return reply.send(toInfo(snapshot))
      }
      let writer: SseWriter | undefined
      let toldAt = 0
      const tell = (progress: PullProgress) => {
        writer ??= startSse(reply, () => gone.abort())
        writer.send(progress)
      }
      try {
        const { snapshot, bytes } = await moves.pull(id, req.body as PullCoordinate, gone.signal, seen => {
          if (performance.now() - toldAt < progressEveryMs) return
          toldAt = performance.now()
          tell({ bytes: seen })
        })
        tell({ bytes, snapshot: toInfo(snapshot) })
      } catch (e) {
        if (writer === undefined) throw e
        writer.error(e instanceof Error ? e.message : String(e))
      }
      writer?.close()
      return reply
    },
  )
}

export function moveRoutes(options: MoveApiOptions): void {
  const { server, moves, toInfo } = options
  sendRoute(options)
  pullRoute(options)
  server.post<Id>('/storage/volumes/:id/mark', { schema: { body: MarkRequest } }, async req =>
    toInfo(await moves.mark(req.params.id, (req.body as MarkRequest).keep ?? [])),
  )
  server.put<Id>('/storage/volumes/:id/retired', { schema: { body: RetireRequest } }, req =>
    moves.retire(req.params.id, (req.body as RetireRequest).target),
  )
  server.delete<Id>('/storage/volumes/:id/retired', async (req, reply) => {
    await moves.unretire(req.params.id)
    return reply.send()
  })
  server.put<Id>(
    '/storage/volumes/:id/committed',
    { schema: { body: RetireRequest } },
    async (req, reply) => {
      moves.commit(req.params.id, (req.body as RetireRequest).target)
      return reply.send()
    },
  )
  server.put<Id>('/storage/volumes/:id/active', { schema: { body: ActivateRequest } }, async (req, reply) => {
    const { force } = req.body as ActivateRequest
    await moves.activate(req.params.id, force ? { force } : {})
    return reply.send()
  })
}
