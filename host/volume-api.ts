// Volumes over HTTP (contract host.md 2.1, 4.1). This host has one provider, `default`, on ZFS.
import { Value } from 'typebox/value'
import { httpErrors, type Server, startSse, wantsSse } from '../pkg/httpd/httpd.ts'
import type { Logger } from '../pkg/log/log.ts'
import type { Volume, VolumeStore } from './container/types.ts'
import { hostErrors } from './errors.ts'
import { refuseFenced } from './job/starter.ts'
import {
  ProviderSpec,
  type VolumeFence,
  type VolumeInfo,
  type VolumeInfoEvent,
  VolumeRequest,
} from './types.ts'
import { moveRoutes } from './volume/api.ts'
import type { VolumeFences } from './volume/fences.ts'
import type { VolumeMoves } from './volume/moves.ts'

export const defaultProvider = 'default'

/** The wire form; a snapshot has the type of what it was taken of. */
export function toVolumeInfo(volume: Volume, fence?: VolumeFence): VolumeInfo {
  return {
    id: volume.id,
    type: 'data',
    ...(Object.keys(volume.meta).length > 0 ? { meta: volume.meta } : {}),
    created_at: volume.createdAt.toISOString(),
    ...(volume.quotaBytes === undefined ? {} : { quota_bytes: volume.quotaBytes }),
    ...(volume.snapshotOf === undefined ? {} : { snapshot_of: volume.snapshotOf }),
    ...(fence === undefined ? {} : { fence }),
  }
}

export type VolumeApiOptions = {
  readonly server: Server
  readonly volumes: VolumeStore
  /** The active job a volume is bound to. */
  readonly boundTo: (volume: string) => string | undefined
  readonly fences: VolumeFences
  readonly moves: VolumeMoves
  readonly log: Logger
}

type Id = { Params: { id: string } }

export function volumeRoutes(options: VolumeApiOptions): void {
  const { server, volumes, boundTo, fences, moves, log } = options
  const toInfo = (volume: Volume): VolumeInfo => toVolumeInfo(volume, fences.get(volume.id))
  moveRoutes({ server, moves, toInfo, log })
  const listeners = new Set<(event: VolumeInfoEvent) => void>()
  volumes.onEvent(({ type, volume }) => {
    for (const listener of [...listeners]) listener({ type, volume: toInfo(volume) })
  })
  const known = (id: string): Volume => {
    const volume = volumes.get(id)
    if (!volume) throw hostErrors.UNKNOWN_VOLUME({ id })
    return volume
  }

  server.post('/storage/providers', { schema: { body: ProviderSpec } }, async req => {
    const { id, kind } = req.body
    if (kind !== 'zfs') throw hostErrors.PROVIDER_KIND({ kind: kind ?? '' })
    if (id === undefined || id === '' || id === defaultProvider)
      throw hostErrors.PROVIDER_EXISTS({ id: defaultProvider })
    throw hostErrors.PROVIDER_KIND({ kind })
  })
  server.post<{ Params: { provider: string } }>(
    '/storage/providers/:provider/volumes',
    { config: { anyContentType: true } },
    async req => {
      const { provider } = req.params
      if (provider !== defaultProvider) throw hostErrors.UNKNOWN_PROVIDER({ id: provider })
      const body = parseVolume(req.body)
      if (body.type !== undefined && body.type !== '' && body.type !== 'data')
        throw hostErrors.VOLUME_TYPE({ type: body.type })
      const { incoming_from: source } = body
      // Before it is made: a crash in between must not leave an empty volume that a job could get.
      if (body.id && source !== undefined && volumes.get(body.id) === undefined)
        fences.set(body.id, { kind: 'incoming', source, complete: false })
      const made = volumes.create({
        ...(source === undefined ? {} : { unmounted: true }),
        ...(body.id ? { id: body.id } : {}),
        ...(body.meta ? { meta: body.meta } : {}),
        ...(body.quota_bytes === undefined ? {} : { quotaBytes: body.quota_bytes }),
      })
      const volume = await made.catch((e: unknown) => {
        if (body.id && source !== undefined && volumes.get(body.id) === undefined)
          fences.set(body.id, undefined)
        throw e
      })
      return toInfo(volume)
    },
  )
  server.get('/storage/volumes', (req, reply) => {
    if (wantsSse(req)) {
      const listener = (event: VolumeInfoEvent) => void writer.send(event)
      const writer = startSse(reply, () => listeners.delete(listener))
      listeners.add(listener)
      return reply
    }
    return reply.send(volumes.list().map(toInfo))
  })
  server.get<Id>('/storage/volumes/:id', async req => toInfo(known(req.params.id)))
  server.delete<Id & { Querystring: { fence?: string } }>('/storage/volumes/:id', async (req, reply) => {
    const { id } = known(req.params.id)
    const { fence } = req.query
    if (fence === 'retired' || fence === 'incoming') {
      await moves.drop(id, fence)
      return reply.send()
    }
    refuseFenced(fences.get(id), id)
    const job = boundTo(id)
    if (job !== undefined) throw hostErrors.VOLUME_BOUND({ volume: id, job })
    await volumes.destroy(id)
    return reply.send()
  })
  server.put<Id>('/storage/volumes/:id/snapshot', async req => {
    const snapshot = await volumes.snapshot(known(req.params.id).id)
    return toInfo(snapshot)
  })
  // Ours: the original had clones, but no route to them.
  server.put<Id>('/storage/volumes/:id/clone', async req =>
    toInfo(await volumes.clone(known(req.params.id).id)),
  )
}

/** The body may be empty, which no schema of fastify's allows. */
function parseVolume(body: unknown): VolumeRequest {
  const value = body ?? {}
  for (const e of Value.Errors(VolumeRequest, value)) {
    const field = e.instancePath.slice(1).replaceAll('/', '.') || 'body'
    throw httpErrors.VALIDATION_ERROR({ field, text: e.message }, { detail: { field } })
  }
  return value as VolumeRequest
}
