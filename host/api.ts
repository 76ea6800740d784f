// HTTP surface of flynn-host (contract host.md 2.1): jobs, status, discoverd, network, tags, ports. Volumes are in
// volume-api.ts, the attach upgrade in attach/. Validates and translates; the nouns decide.
import { createServer } from 'node:net'
import { networkInterfaces } from 'node:os'
import type { FastifyRequest } from 'fastify'
import {
  acceptsKey,
  httpd,
  httpErrors,
  requestKey,
  type Server,
  startSse,
  wantsSse,
} from '../pkg/httpd/httpd.ts'
import type { Logger } from '../pkg/log/log.ts'
import { version } from '../pkg/version/version.ts'
import { hostCapacity } from './capacity.ts'
import type { ContainerRuntime } from './container/types.ts'
import type { DiscoverdLink } from './discoverd.ts'
import type { HostDrain } from './drain.ts'
import { hostErrors } from './errors.ts'
import type { PatternStore } from './fix/patterns.ts'
import { sameProcess } from './job/job.core.ts'
import type { JobRunner } from './job/runner.ts'
import { withDefaults } from './job/spec.core.ts'
import type { JobTable } from './job/table.ts'
import { acceptJob } from './job/validate.core.ts'
import type { HostTags } from './tags.ts'
import {
  type ActiveJob,
  DiscoverdConfig,
  type HostStatus,
  isActive,
  Job,
  type JobStats,
  NetworkConfig,
  Patterns,
  ResourceCheck,
  Tags,
} from './types.ts'

/** A port is taken to be free or not within this time. */
export const portCheckTimeoutMs = 2_000

export type ApiOptions = {
  readonly log: Logger
  readonly authKey: string
  readonly hostId: string
  readonly url: string
  /** Arguments of the daemon, as `flags` of the status. */
  readonly flags: readonly string[]
  readonly table: JobTable
  readonly runner: JobRunner
  readonly runtime: ContainerRuntime
  readonly discoverd: DiscoverdLink
  readonly tags: HostTags
  readonly drain: HostDrain
  readonly patterns: PatternStore
  readonly network: () => NetworkConfig | undefined
  /** Makes this the host's network; rejects NETWORK_IN_USE. */
  readonly setNetwork: (config: NetworkConfig) => Promise<void>
}

/** True for requests from an address of this machine. */
function isLocal(req: FastifyRequest): boolean {
  const from = req.socket.remoteAddress?.replace(/^::ffff:/, '') ?? ''
  if (from === '::1' || from.startsWith('127.')) return true
  return Object.values(networkInterfaces()).some(list => list?.some(i => i.address === from))
}

function isExempt(req: FastifyRequest): boolean {
  const path = req.url.split('?')[0]
  if (req.method === 'GET') return path === '/host/status' || path?.startsWith('/host/prove/') === true
  return req.method === 'POST' && path === '/host/discoverd' && isLocal(req)
}

/** Go clients send nil maps and lists as null: absent here. */
function parseJson(text: string): unknown {
  if (text.trim() === '') return undefined
  try {
    return JSON.parse(text, (key, value) => (value === null || key === '__proto__' ? undefined : value))
  } catch (cause) {
    throw httpErrors.SYNTAX_ERROR({}, { cause })
  }
}

/** The server with its conventions, without routes. */
function makeServer(options: ApiOptions): Server {
  const server = httpd({
    log: options.log,
    name: 'flynn-host',
    authKeys: () => [options.authKey],
    authExempt: isExempt,
    realm: 'flynn-host',
  })
  server.removeAllContentTypeParsers()
  server.addContentTypeParser('*', { parseAs: 'string' }, (_req, body, done) => {
    try {
      done(null, parseJson(String(body)))
    } catch (e) {
      done(e as Error, undefined)
    }
  })
  server.addHook('preValidation', async req => {
    const { schema, config } = req.routeOptions as {
      schema?: { body?: unknown }
      config: { anyContentType?: boolean }
    }
    if (!schema?.body || config.anyContentType) return
    if (!(req.headers['content-type'] ?? '').includes('application/json')) throw httpErrors.CONTENT_TYPE()
    if (req.body === undefined) throw httpErrors.SYNTAX_ERROR()
  })
  return server
}

function jobRoutes(server: Server, options: ApiOptions): void {
  const { table, runner, runtime } = options
  const known = (id: string): ActiveJob => {
    const job = table.get(id)
    if (!job) throw hostErrors.UNKNOWN_JOB()
    return job
  }
  type Id = { Params: { id: string } }

  server.get<{ Querystring: { active?: string } }>('/host/jobs', (req, reply) => {
    if (wantsSse(req)) {
      const unlisten = table.listen(event => writer.send(event))
      const writer = startSse(reply, () => unlisten())
      return reply
    }
    const jobs = table.list().filter(j => req.query.active !== 'true' || isActive(j))
    return reply.send(Object.fromEntries(jobs.map(j => [j.job.id, j])))
  })
  server.get<Id>('/host/jobs/:id', (req, reply) => {
    const { id } = req.params
    if (wantsSse(req)) {
      const unlisten = table.listen(event => event.job_id === id && writer.send(event))
      const writer = startSse(reply, () => unlisten())
      return reply
    }
    return reply.send(known(id))
  })
  server.put('/host/jobs/:id', { schema: { body: Job } }, async req => {
    const { id } = req.params as { id: string }
    const job = withDefaults(acceptJob(id, req.body))
    if ((req.query as { unless_active?: string }).unless_active === 'true') {
      const active = table.active().find(a => sameProcess(a.job, job))
      if (active) throw hostErrors.PROCESS_ACTIVE({ job: active.job.id })
    }
    runner.add(job)
    return {}
  })
  server.delete<Id>('/host/jobs/:id', async (req, reply) => {
    await runner.stop(req.params.id)
    return reply.send()
  })
  server.put<Id>('/host/jobs/:id/discoverd-deregister', async (req, reply) => {
    await runner.deregister(req.params.id)
    return reply.send()
  })
  server.put<{ Params: { id: string; signal: string } }>(
    '/host/jobs/:id/signal/:signal',
    async (req, reply) => {
      if (!/^\d{1,3}$/.test(req.params.signal)) throw hostErrors.SIGNAL()
      await runner.signal(req.params.id, Number(req.params.signal))
      return reply.send()
    },
  )
  server.get<Id>('/host/jobs/:id/stats', async (req): Promise<JobStats> => {
    const { id } = req.params
    known(id)
    const usage = await runtime.usage(id)
    return {
      job_id: id,
      timestamp: new Date().toISOString(),
      memory_usage_bytes: usage.memoryBytes,
      cpu_usage_nanoseconds: usage.cpuNs,
      pids_current: usage.processes,
    }
  })
}

function hostRoutes(server: Server, options: ApiOptions): void {
  const { discoverd, tags, drain, patterns } = options
  server.get('/host/status', async (): Promise<HostStatus> => {
    const network = options.network()
    const current = tags.current
    return {
      id: options.hostId,
      resources: hostCapacity(),
      ...(Object.keys(current).length > 0 ? { tags: current } : {}),
      pid: process.pid,
      url: options.url,
      ...(discoverd.config ? { discoverd: discoverd.config } : {}),
      ...(network ? { network } : {}),
      version,
      ...(drain.since === undefined ? {} : { draining_since: drain.since }),
      flags: options.flags.length > 0 ? options.flags : null,
    }
  })
  server.post('/host/discoverd', { schema: { body: DiscoverdConfig } }, async (req, reply) => {
    discoverd.set(req.body)
    return reply.send()
  })
  server.post('/host/network', { schema: { body: NetworkConfig } }, async (req, reply) => {
    await options.setNetwork(req.body)
    return reply.send()
  })
  server.post('/host/tags', { schema: { body: Tags } }, async (req, reply) => {
    tags.change(req.body)
    discoverd.metaChanged()
    return reply.send()
  })
  server.put('/host/drain', async (_req, reply) => {
    drain.begin()
    discoverd.metaChanged()
    return reply.send()
  })
  server.delete('/host/drain', async (_req, reply) => {
    drain.end()
    discoverd.metaChanged()
    return reply.send()
  })
  server.get('/host/patterns', async () => patterns.list())
  server.put('/host/patterns', { schema: { body: Patterns } }, async (req, reply) => {
    patterns.keep(req.body.map(job => acceptJob(job.id ?? '', job)))
    return reply.send()
  })
  server.post('/host/resource-check', { schema: { body: ResourceCheck } }, async req => {
    const wanted = (req.body.ports ?? []).map(p => ({ port: p.port ?? 0, proto: p.proto || 'tcp' }))
    const taken: typeof wanted = []
    for (const p of wanted) if (p.proto === 'tcp' && !(await isFree(p.port))) taken.push(p)
    if (taken.length > 0) throw hostErrors.PORTS_TAKEN({}, { detail: { ports: taken } })
    return {}
  })
}

/** Whether nothing listens on a TCP port of this machine, on any address. */
function isFree(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const probe = createServer()
    const settle = (free: boolean) => {
      clearTimeout(timer)
      probe.close(() => resolve(free))
    }
    const timer = setTimeout(() => settle(false), portCheckTimeoutMs)
    probe.once('error', () => settle(false))
    probe.listen({ port, host: '0.0.0.0', exclusive: true }, () => settle(true))
  })
}

/** The API without the volumes, ready for more routes and `listen`. */
export function hostApi(options: ApiOptions): Server {
  const server = makeServer(options)
  jobRoutes(server, options)
  hostRoutes(server, options)
  return server
}

/** Whether a request outside of fastify (an upgrade) carries the host's key. */
export function isAuthorized(authKey: string, req: Parameters<typeof requestKey>[0]): boolean {
  return acceptsKey(requestKey(req), [authKey])
}
