// discoverd's HTTP interface over store, liveness and peers. Paths, codes and bodies are contract discoverd.md 3-10.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { type TSchema, Type } from 'typebox'
import { Value } from 'typebox/value'
import { FlynnError } from '../pkg/errors/errors.ts'
import { acceptsKey, httpd, httpErrors, requestKey, type Server, wantsSse } from '../pkg/httpd/httpd.ts'
import { instanceId } from '../pkg/ids/ids.ts'
import type { Logger } from '../pkg/log/log.ts'
import { errors } from './errors.ts'
import { heartbeatsPerRequestMax } from './heartbeats.ts'
import type { Liveness } from './liveness.ts'
import type { Membership } from './membership.ts'
import type { Peers } from './peers.ts'
import { type ServiceState, toInstance } from './state.core.ts'
import type { Store } from './store.ts'
import { allKinds, instanceKinds, leaderKinds, type Streams } from './streams.ts'
import {
  Heartbeat,
  type HeartbeatFailure,
  type HeartbeatInput,
  type Instance,
  type InstanceInput,
  Instance as InstanceSchema,
  type RaftLeader,
  ServiceConfig,
  type ServiceMeta,
  ServiceMeta as ServiceMetaSchema,
} from './types.ts'
import { instanceFault, serviceNameFault, splitHostPort } from './validate.core.ts'

export const requestBytesMax = 1024 * 1024
export const instanceMetaBytesMax = 64 * 1024

export type Api = {
  readonly store: Store
  readonly liveness: Liveness
  readonly peers: Peers
  readonly streams: Streams
  readonly log: Logger
  readonly closing: () => boolean
  readonly membership: Membership
  /** Asked of those who change the peers or end the daemon. */
  readonly adminKey: string | undefined
  /** Takes this daemon out of service and ends it. */
  readonly shutdown: () => Promise<void>
}

type OnService = { readonly Params: { readonly service: string } }
type OnInstance = { readonly Params: { readonly service: string; readonly instanceId: string } }

function requireJsonType(req: FastifyRequest): void {
  if (!(req.headers['content-type'] ?? '').includes('application/json')) throw errors.CONTENT_TYPE()
}

/** The body as a value of the schema; unknown members are ignored, anything else wrong is a syntax error. */
function parseBody<T>(req: FastifyRequest, schema: TSchema): T {
  let value: unknown
  try {
    value = JSON.parse(typeof req.body === 'string' ? req.body : '')
  } catch (e) {
    throw errors.SYNTAX_ERROR({}, { cause: e })
  }
  if (!Value.Check(schema, value)) throw errors.SYNTAX_ERROR()
  return value as T
}

function requireName(service: string): void {
  const fault = serviceNameFault(service)
  if (fault !== undefined) throw errors.INVALID({ text: fault })
}

/** A registered service, or 404. */
function requireService(api: Api, name: string): ServiceState {
  const service = api.store.service(name)
  if (service?.leaderType === undefined) throw errors.SERVICE_NOT_FOUND({ service: name })
  return service
}

function toValidInstance(input: InstanceInput): Instance {
  const { id = '', addr = '', proto = '', meta } = input
  const fault = instanceFault({ id, addr, proto }, instanceId(proto, addr))
  if (fault !== undefined) throw errors.INVALID({ text: fault })
  if (meta && Buffer.byteLength(JSON.stringify(meta)) > instanceMetaBytesMax)
    throw errors.INVALID({ text: `discoverd: instance meta is larger than ${instanceMetaBytesMax} bytes` })
  return { id, addr, proto, ...(meta && Object.keys(meta).length > 0 ? { meta } : {}) }
}

function serviceRoutes(server: Server, api: Api): void {
  server.get('/services', async () => api.store.serviceNames())

  server.put<OnService>('/services/:service', async (req, reply) => {
    requireName(req.params.service)
    requireJsonType(req)
    const config = parseBody<ServiceConfig>(req, ServiceConfig)
    await api.store.addService(req.params.service, config.leader_type || 'oldest')
    return reply.send()
  })

  server.delete<OnService>('/services/:service', async (req, reply) => {
    requireName(req.params.service)
    await api.store.removeService(req.params.service)
    return reply.send()
  })

  server.get<OnService>('/services/:service', (req, reply) =>
    api.streams.serve(reply, req.params.service, allKinds),
  )
}

const heartbeatList = Type.Array(Heartbeat, { maxItems: heartbeatsPerRequestMax })

/** Null when it was taken; one that fails leaves the others as they are. */
async function heartbeatOf(api: Api, beat: HeartbeatInput): Promise<HeartbeatFailure | null> {
  try {
    await api.liveness.heartbeat(beat.service, toValidInstance(beat.instance))
    return null
  } catch (e) {
    if (!(e instanceof FlynnError)) throw e
    return { code: e.code, message: e.message }
  }
}

function instanceRoutes(server: Server, api: Api): void {
  server.put<OnInstance>('/services/:service/instances/:instanceId', async (req, reply) => {
    const instance = toValidInstance(parseBody<InstanceInput>(req, InstanceSchema))
    await api.liveness.heartbeat(req.params.service, instance)
    return reply.send()
  })

  server.post('/heartbeats', async req => {
    const beats = parseBody<readonly HeartbeatInput[]>(req, heartbeatList)
    return Promise.all(beats.map(beat => heartbeatOf(api, beat)))
  })

  server.delete<OnInstance>('/services/:service/instances/:instanceId', async (req, reply) => {
    requireService(api, req.params.service)
    await api.liveness.remove(req.params.service, req.params.instanceId)
    return reply.send()
  })

  server.get<OnService>('/services/:service/instances', async (req, reply) => {
    const { service } = req.params
    if (wantsSse(req)) return api.streams.serve(reply, service, instanceKinds)
    const instances = api.store.service(service)?.instances
    if (!instances || instances.size === 0) throw errors.INSTANCES_NOT_FOUND({ service })
    return [...instances.values()].map(toInstance)
  })
}

function metaRoutes(server: Server, api: Api): void {
  server.put<OnService>('/services/:service/meta', async req => {
    requireJsonType(req)
    const input = parseBody<Partial<ServiceMeta>>(req, ServiceMetaSchema)
    const meta: ServiceMeta = {
      data: input.data ?? null,
      ...(input.leader_id ? { leader_id: input.leader_id } : {}),
      index: input.index ?? 0,
    }
    const index = await api.store.setMeta(req.params.service, meta)
    return { ...meta, index }
  })

  server.get<OnService>('/services/:service/meta', async req => {
    const meta = api.store.service(req.params.service)?.meta
    if (!meta) throw errors.META_NOT_FOUND()
    return meta
  })
}

function leaderRoutes(server: Server, api: Api): void {
  server.put<OnService>('/services/:service/leader', async (req, reply) => {
    requireJsonType(req)
    if (api.store.service(req.params.service)?.leaderType !== 'manual') throw errors.NOT_MANUAL()
    const { id = '' } = parseBody<InstanceInput>(req, InstanceSchema)
    await api.store.setLeader(req.params.service, id)
    return reply.send()
  })

  server.get<OnService>('/services/:service/leader', async (req, reply) => {
    if (wantsSse(req)) return api.streams.serve(reply, req.params.service, leaderKinds)
    const service = api.store.service(req.params.service)
    const leader = service?.leader === undefined ? undefined : service.instances.get(service.leader)
    if (!leader) throw errors.LEADER_NOT_FOUND()
    return toInstance(leader)
  })
}

function adminRoutes(server: Server, api: Api): void {
  server.get('/ping', async (_req, reply) => reply.send())
  server.get('/.well-known/status', async () => ({ data: { status: 'healthy' } }))
  server.get('/raft/peers', () => api.peers.list())
  server.get('/raft/leader', async (): Promise<RaftLeader> => ({ host: await api.peers.leader() }))
}

/** A container without the host key may read who the peers are, and no more. */
function requireAdmin(req: FastifyRequest, api: Api): void {
  if (api.adminKey !== undefined && !acceptsKey(requestKey(req), [api.adminKey]))
    throw httpErrors.UNAUTHORIZED()
}

type OnPeer = { readonly Params: { readonly peer: string } }

/** `ip:port` of the path; the port is everybody's own. */
function peerHost(peer: string): string {
  const split = splitHostPort(peer)
  if (typeof split === 'string') throw errors.INVALID_PEER({ peer })
  return split.host
}

function membershipRoutes(server: Server, api: Api): void {
  const { membership, store } = api
  const checked = { onRequest: async (req: FastifyRequest) => requireAdmin(req, api) }
  server.put<OnPeer>('/raft/peers/:peer', checked, async req => ({
    last_index: await membership.add(peerHost(req.params.peer)),
  }))
  server.delete<OnPeer>('/raft/peers/:peer', checked, async (req, reply) => {
    await membership.remove(peerHost(req.params.peer))
    return reply.send()
  })
  server.post('/raft/promote', checked, async (_req, reply) => {
    await membership.promote()
    return reply.send()
  })
  server.post('/raft/demote', checked, async (_req, reply) => {
    await membership.demote()
    return reply.send()
  })
  server.post('/raft/recover', checked, async (_req, reply) => {
    await membership.recover()
    return reply.send()
  })
  server.post('/shutdown', checked, async () => {
    const last_index = store.revision
    await api.shutdown()
    return { last_index }
  })
}

const servedWhileStarting = new Set([
  '/ping',
  '/raft/peers',
  '/raft/leader',
  '/raft/promote',
  '/raft/demote',
  '/raft/recover',
  '/shutdown',
])

/** Before every route (contract 3.2): nothing while closing, no state before it is loaded, who answers and how current. */
function gate(api: Api, req: FastifyRequest, reply: FastifyReply): void {
  if (api.closing()) throw errors.SHUTTING_DOWN()
  const [path = ''] = req.url.split('?')
  if (!api.store.loaded && !servedWhileStarting.has(path)) throw errors.STARTING()
  const peers = api.peers.addresses.join(',')
  if (peers !== '') void reply.header('discoverd-peers', peers)
  void reply.header('discoverd-index', String(api.store.revision))
}

/** The server with all routes; the caller listens. */
export function apiServer(api: Api): Server {
  const server = httpd({ log: api.log, name: 'discoverd', bodyBytesMax: requestBytesMax })
  // Bodies are parsed by the handlers: some routes take any content type, and all answer the same to broken JSON.
  server.removeAllContentTypeParsers()
  server.addContentTypeParser('*', { parseAs: 'string' }, (_req, body, done) => done(null, body))
  server.addHook('onRequest', async (req, reply) => gate(api, req, reply))
  adminRoutes(server, api)
  membershipRoutes(server, api)
  serviceRoutes(server, api)
  instanceRoutes(server, api)
  metaRoutes(server, api)
  leaderRoutes(server, api)
  return server
}
