// Opens the source of a layer as a stream: a file of this host, or HTTP. Hosts under .discoverd are looked up by the
// caller's resolver, because the host's own resolver does not know them.
import { createReadStream } from 'node:fs'
import { access } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { sleep } from '../../pkg/clock/clock.ts'
import { exchange } from '../../pkg/http/request.ts'
import { engineErrors } from '../container/errors.ts'
import { layerSource } from './layer.core.ts'

/** How long refused connections and failing servers are tried again (contract host.md 4.5). */
export const fetchRetryMs = 30_000
export const fetchHeadersTimeoutMs = 10_000
/** Longest pause between two chunks of a body. */
export const fetchBodyTimeoutMs = 30_000
const retryIntervalMs = 500
const redirectsMax = 5

/** Address `host:port` of an instance of a service, e.g. for `blobstore.discoverd`. */
export type Resolve = (host: string) => Promise<string>

export type FetchOptions = {
  readonly id: string
  readonly url: string
  readonly resolve: Resolve
  readonly signal: AbortSignal
  readonly retryMs: number
}

/** The body of a layer's URL. Rejects with LAYER_FETCH; what was wrong is in its text. */
export async function openLayer(options: FetchOptions): Promise<Readable> {
  const { id, url } = options
  const source = layerSource(url)
  if (source === undefined)
    throw engineErrors.LAYER_FETCH({ id, url, reason: 'only file, http and https URLs are fetched' })
  try {
    if (source.kind === 'http') return await openHttp(source.url, source.discoverd, options)
    await access(source.path)
    return createReadStream(source.path, { highWaterMark: 1024 * 1024, signal: options.signal })
  } catch (cause) {
    options.signal.throwIfAborted()
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw engineErrors.LAYER_FETCH({ id, url, reason }, { cause })
  }
}

class HttpStatusError extends Error {
  readonly status: number
  constructor(status: number) {
    super(`HTTP ${status}`)
    this.status = status
  }
}

async function openHttp(url: URL, discoverd: boolean, options: FetchOptions): Promise<Readable> {
  const end = Date.now() + options.retryMs
  for (;;) {
    try {
      return await once(url, discoverd, options)
    } catch (e) {
      options.signal.throwIfAborted()
      // A server that says no says so again; one that is not there yet may come.
      if ((e instanceof HttpStatusError && e.status < 500) || Date.now() >= end) throw e
    }
    await sleep(retryIntervalMs, options.signal)
  }
}

async function once(url: URL, discoverd: boolean, options: FetchOptions): Promise<Readable> {
  let target = discoverd
    ? new URL(url.pathname + url.search, `http://${await options.resolve(url.hostname)}`)
    : url
  for (let hops = 0; hops <= redirectsMax; hops++) {
    const res = await exchange(target, {
      signal: options.signal,
      headersTimeoutMs: fetchHeadersTimeoutMs,
      idleTimeoutMs: fetchBodyTimeoutMs,
      ...(discoverd && hops === 0 ? { headers: { host: url.host } } : {}),
    })
    if (res.statusCode === 200) return res.body
    await res.body.dump()
    const location = res.headers['location']
    if (res.statusCode < 300 || res.statusCode >= 400 || typeof location !== 'string')
      throw new HttpStatusError(res.statusCode)
    target = new URL(location, target)
  }
  throw new Error(`more than ${redirectsMax} redirects`)
}
