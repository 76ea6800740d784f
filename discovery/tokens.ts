// The client's side of the token service: make a token, register this host, list the others. No server is known by default.
import { Value } from 'typebox/value'
import { exchange, type Response } from '../pkg/http/request.ts'
import { version } from '../pkg/version/version.ts'
import { errors } from './errors.ts'
import { type Instance, type NewInstance, NewInstance as NewInstanceSchema } from './types.ts'

export const callTimeoutMs = 10_000
export const answerBytesMax = 1024 * 1024

/** The whole URL of a token: `http(s)://server/clusters/<id>`. */
function tokenUrl(token: string): URL {
  let url: URL
  try {
    url = new URL(token)
  } catch (cause) {
    throw errors.BAD_TOKEN({ token, text: 'it is no URL' }, { cause })
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw errors.BAD_TOKEN({ token, text: 'it does not begin with http:// or https://' })
  return url
}

async function call(
  url: URL,
  method: string,
  body: unknown,
  signal: AbortSignal | undefined,
): Promise<{ readonly res: Response; readonly text: string }> {
  const limit = AbortSignal.timeout(callTimeoutMs)
  try {
    const res = await exchange(url, {
      method,
      headers: {
        accept: 'application/json',
        'user-agent': `flynn-host/${version} ${process.platform}-${process.arch}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    })
    let text = ''
    for await (const chunk of res.body) {
      text += String(chunk)
      if (text.length > answerBytesMax) throw new Error('the answer is too large')
    }
    return { res, text }
  } catch (cause) {
    signal?.throwIfAborted()
    const reason =
      cause instanceof Error ? cause.message || String((cause as { code?: unknown }).code) : String(cause)
    throw errors.UNREACHABLE({ server: url.origin, reason }, { cause })
  }
}

function data(url: URL, { res, text }: { readonly res: Response; readonly text: string }): unknown {
  try {
    return (JSON.parse(text) as { data?: unknown }).data
  } catch (cause) {
    throw errors.UNREACHABLE({ server: url.origin, reason: `HTTP ${res.statusCode}, no JSON` }, { cause })
  }
}

function refused(url: URL, { res, text }: { readonly res: Response; readonly text: string }): Error {
  let reason = `HTTP ${res.statusCode}`
  try {
    reason += ` ${String((JSON.parse(text) as { message?: unknown }).message ?? '')}`
  } catch {
    // The status says enough.
  }
  return errors.UNREACHABLE({ server: url.origin, reason: reason.trim() })
}

/** A new token of the server at this URL (env DISCOVERY_SERVER). Rejects NO_SERVER or UNREACHABLE. */
export async function createToken(server: string | undefined, signal?: AbortSignal): Promise<string> {
  if (!server) throw errors.NO_SERVER()
  const url = new URL('clusters', `${tokenUrl(server).href.replace(/\/+$/, '')}/`)
  const answer = await call(url, 'POST', undefined, signal)
  const location = answer.res.headers.location
  if (answer.res.statusCode !== 201 || location === undefined) throw refused(url, answer)
  return new URL(location, url).href
}

/** Registers a host behind the token; once more is as good. */
export async function registerHost(
  token: string,
  host: NewInstance,
  signal?: AbortSignal,
): Promise<{ readonly id: string }> {
  const url = new URL(`${tokenUrl(token).href.replace(/\/+$/, '')}/instances`)
  const answer = await call(url, 'POST', { data: host }, signal)
  if (answer.res.statusCode !== 201 && answer.res.statusCode !== 409) throw refused(url, answer)
  const id = (data(url, answer) as { id?: unknown } | undefined)?.id
  if (typeof id !== 'string') throw refused(url, answer)
  return { id }
}

/** All hosts behind the token. */
export async function tokenHosts(
  token: string,
  signal?: AbortSignal,
): Promise<readonly Pick<Instance, 'name' | 'url'>[]> {
  const url = new URL(`${tokenUrl(token).href.replace(/\/+$/, '')}/instances`)
  const answer = await call(url, 'GET', undefined, signal)
  const list = answer.res.statusCode === 200 ? data(url, answer) : undefined
  if (!Array.isArray(list)) throw refused(url, answer)
  return list.filter((item): item is Instance => Value.Check(NewInstanceSchema, item))
}

/** Addresses of all hosts behind the token. */
export async function tokenAddresses(token: string, signal?: AbortSignal): Promise<readonly string[]> {
  const hosts = await tokenHosts(token, signal)
  return [...new Set(hosts.map(h => new URL(h.url).hostname.replace(/^\[|\]$/g, '')))]
}
