// HTTP surface of the token service (contract host.md 6.1): who has the token may read and add hosts, nobody can list tokens.
// Joining a cluster still takes its key; the token only says where to ask.
import { Value } from 'typebox/value'
import { httpd, type Server } from '../pkg/httpd/httpd.ts'
import type { Logger } from '../pkg/log/log.ts'
import { errors } from './errors.ts'
import type { TokenStore } from './store.ts'
import { type NewInstance, NewInstanceBody } from './types.ts'

export const requestBytesMax = 64 * 1024
/** New tokens of one address. */
export const tokensPerHourMax = 30
/** Addresses that are remembered for that. */
export const addressesMax = 10_000
const hourMs = 60 * 60 * 1000

/** Counts events of an address in a sliding hour; forgets the oldest addresses first. */
function hourlyLimit(max: number, nowMs: () => number): (address: string) => boolean {
  const seen = new Map<string, number[]>()
  return address => {
    const recent = (seen.get(address) ?? []).filter(at => at > nowMs() - hourMs)
    if (recent.length >= max) return false
    seen.delete(address)
    seen.set(address, [...recent, nowMs()])
    const [oldest] = seen.keys()
    if (seen.size > addressesMax && oldest !== undefined) seen.delete(oldest)
    return true
  }
}

function parseHost(body: unknown): NewInstance {
  let value: unknown
  try {
    value = JSON.parse(typeof body === 'string' ? body : '', (key, v) =>
      key === '__proto__' ? undefined : v,
    )
  } catch (cause) {
    throw errors.SYNTAX({}, { cause })
  }
  if (Value.Check(NewInstanceBody, value)) return (value as { data: NewInstance }).data
  const [fault] = Value.Errors(NewInstanceBody, value)
  const field = fault?.instancePath.split('/').filter(Boolean).join('.') || 'data'
  throw errors.INVALID({ field, text: fault?.message ?? 'is not valid' }, { detail: { field } })
}

export type DiscoveryOptions = {
  readonly store: TokenStore
  readonly log: Logger
  /** As seen from outside, for the answer's Location; the path alone when absent. */
  readonly publicUrl?: string | undefined
}

/** The server with its routes; the caller listens. */
export function discoveryServer({ store, log, publicUrl }: DiscoveryOptions): Server {
  const server = httpd({ log, name: 'discovery', bodyBytesMax: requestBytesMax, status: () => 'ready' })
  // The original's clients send no content type, or an empty body with one.
  server.removeAllContentTypeParsers()
  server.addContentTypeParser('*', { parseAs: 'string' }, (_req, body, done) => done(null, body))
  const allowed = hourlyLimit(tokensPerHourMax, () => performance.now())

  server.post('/clusters', async (req, reply) => {
    if (!allowed(req.ip)) throw errors.TOO_FAST({ max: tokensPerHourMax, address: req.ip })
    const path = `/clusters/${store.createToken()}`
    log.info({ from: req.ip }, 'token made')
    return reply
      .code(201)
      .header('location', `${publicUrl ?? ''}${path}`)
      .send()
  })
  server.post<{ Params: { token: string } }>('/clusters/:token/instances', async (req, reply) => {
    const { id, isNew } = store.register(req.params.token, parseHost(req.body))
    return reply.code(isNew ? 201 : 409).send({ data: { id } })
  })
  server.get<{ Params: { token: string } }>('/clusters/:token/instances', async req => ({
    data: store.instances(req.params.token),
  }))
  return server
}
