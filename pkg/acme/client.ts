// A client of certificate authorities that speak ACME (RFC 8555), for HTTP-01 on one name at a time. Every call ends with
// its signal or its limits; what an authority refuses is an AcmeError with its type and, where it told, when to come again.
import { setTimeout as delay } from 'node:timers/promises'
import { exchange, type Response } from '../http/request.ts'
import { newKey, signedBody } from './jws.ts'

export { newKey, thumbprintOf } from './jws.ts'

export const acmeRequestTimeoutMs = 30_000
/** From the challenge's start to the certificate. */
export const acmeOrderTimeoutMs = 300_000
const pollMinMs = 1_000
const pollMaxMs = 15_000
/** A nonce may have expired when it arrives (6.5). */
const nonceAttemptsMax = 5
export const acmeAnswerBytesMax = 256 * 1024

/** A problem document of the authority (RFC 7807), or what became of an order. */
export class AcmeError extends Error {
  /** `rateLimited`, `dns`, `unauthorized` ... (6.7). */
  readonly type: string
  readonly retryAfterMs: number | undefined

  constructor(type: string, detail: string, retryAfterMs?: number) {
    super(detail)
    this.name = 'AcmeError'
    this.type = type
    this.retryAfterMs = retryAfterMs
  }
}

type Directory = {
  readonly newNonce: string
  readonly newAccount: string
  readonly newOrder: string
}

type Problem = { readonly type?: string; readonly detail?: string }

type Order = {
  readonly status: string
  readonly authorizations: readonly string[]
  readonly finalize: string
  readonly certificate?: string
  readonly error?: Problem
}

type Challenge = {
  readonly type: string
  readonly url: string
  readonly token: string
  readonly status: string
  readonly error?: Problem
}

type Authorization = { readonly status: string; readonly challenges: readonly Challenge[] }

type Answer<T> = {
  readonly status: number
  readonly value: T
  readonly text: string
  readonly location: string
  readonly retryAfterMs: number | undefined
}

export type IssuedCertificate = {
  /** PEM, the chain after it. */
  readonly cert: string
  /** PKCS#8 PEM. */
  readonly key: string
}

export type AcmeOptions = {
  readonly directoryUrl: string
  /** PKCS#8 PEM, P-256. */
  readonly accountKey: string
  readonly signal: AbortSignal
}

function problemOf(problem: Problem | undefined, retryAfterMs?: number): AcmeError {
  const type = problem?.type?.split(':').at(-1) ?? 'serverInternal'
  return new AcmeError(type, problem?.detail ?? 'the authority gave no reason', retryAfterMs)
}

/** Seconds or a date (RFC 9110 10.2.3). */
export function retryAfterOf(header: string | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - nowMs
  return Number.isFinite(ms) && ms >= 0 ? ms : undefined
}

async function readText(response: Response): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response.body) {
    bytes += (chunk as Buffer).length
    if (bytes > acmeAnswerBytesMax)
      throw new AcmeError('malformed', 'the answer of the authority is too long')
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks).toString()
}

export class AcmeClient {
  readonly #options: AcmeOptions
  #directory: Directory | undefined
  #nonce: string | undefined
  #account: string | undefined

  /** `account`: its URL, when the key has been registered before. */
  constructor(options: AcmeOptions, account?: string) {
    this.#options = options
    this.#account = account
  }

  /** Registers the key, or finds the account that it has, and sets the address (7.3). Answers the account's URL. */
  async register(contactEmail: string): Promise<string> {
    const { newAccount } = await this.#urls()
    const contact = contactEmail ? [`mailto:${contactEmail}`] : []
    const made = await this.#post(newAccount, { termsOfServiceAgreed: true, contact }, 'key')
    this.#account = made.location
    if (made.status === 200) await this.#post(made.location, { contact })
    return made.location
  }

  /** A certificate for the name, with a key of its own. The challenge must be answered wherever the name leads. */
  async issue(domain: string): Promise<IssuedCertificate> {
    const end = AbortSignal.timeout(acmeOrderTimeoutMs)
    const { newOrder } = await this.#urls()
    const made = await this.#post<Order>(newOrder, { identifiers: [{ type: 'dns', value: domain }] })
    for (const url of made.value.authorizations) await this.#authorize(url, end)
    const { signingRequest } = await import('./csr.ts')
    const key = newKey()
    await this.#post(made.value.finalize, { csr: await signingRequest(domain, key) })
    const order = await this.#settled<Order>(made.location, ['pending', 'ready', 'processing'], end)
    if (order.status !== 'valid' || order.certificate === undefined) throw problemOf(order.error)
    const { text } = await this.#post(order.certificate, undefined)
    return { cert: text, key }
  }

  async #authorize(url: string, end: AbortSignal): Promise<void> {
    const { value } = await this.#post<Authorization>(url, undefined)
    // Another order may have shown it not long ago (7.5).
    if (value.status === 'valid') return
    const challenge = value.challenges.find(c => c.type === 'http-01')
    if (!challenge) throw new AcmeError('unsupportedChallenge', 'the authority offers no HTTP-01 challenge')
    if (challenge.status === 'pending') await this.#post(challenge.url, {})
    const settled = await this.#settled<Authorization>(url, ['pending'], end)
    if (settled.status === 'valid') return
    throw problemOf(settled.challenges.find(c => c.error)?.error)
  }

  /** Asks until the status is none of `open`, as often as the authority says (7.5.1). */
  async #settled<T extends { readonly status: string }>(
    url: string,
    open: readonly string[],
    end: AbortSignal,
  ): Promise<T> {
    const signal = AbortSignal.any([end, this.#options.signal])
    for (let waitMs = pollMinMs; ; waitMs = Math.min(waitMs * 2, pollMaxMs)) {
      const { value, retryAfterMs } = await this.#post<T>(url, undefined)
      if (!open.includes(value.status)) return value
      await delay(Math.min(retryAfterMs ?? waitMs, pollMaxMs), undefined, { signal }).catch(e => {
        if (this.#options.signal.aborted) throw e
        throw new AcmeError('timeout', `the authority did not decide in ${acmeOrderTimeoutMs / 1000} s`)
      })
    }
  }

  async #urls(): Promise<Directory> {
    if (this.#directory) return this.#directory
    const response = await this.#exchange(this.#options.directoryUrl, 'GET', undefined)
    const text = await readText(response)
    try {
      const found = JSON.parse(text) as Directory
      for (const name of ['newNonce', 'newAccount', 'newOrder'] as const) new URL(found[name])
      this.#directory = found
      return found
    } catch {
      throw new AcmeError('malformed', `${this.#options.directoryUrl} is no ACME directory`)
    }
  }

  async #takeNonce(): Promise<string> {
    const nonce = this.#nonce
    this.#nonce = undefined
    if (nonce !== undefined) return nonce
    const { newNonce } = await this.#urls()
    const response = await this.#exchange(newNonce, 'HEAD', undefined)
    await response.body.dump()
    const fresh = response.headers['replay-nonce']
    if (typeof fresh !== 'string') throw new AcmeError('badNonce', 'the authority gave no nonce')
    return fresh
  }

  /** One signed request; again with a fresh nonce when the one it had was refused. */
  async #post<T = unknown>(
    url: string,
    payload: unknown,
    by: 'account' | 'key' = 'account',
  ): Promise<Answer<T>> {
    for (let attempt = 1; ; attempt++) {
      const body = signedBody({
        keyPem: this.#options.accountKey,
        url,
        nonce: await this.#takeNonce(),
        account: by === 'account' ? this.#account : undefined,
        payload,
      })
      const response = await this.#exchange(url, 'POST', body)
      const text = await readText(response)
      const nonce = response.headers['replay-nonce']
      if (typeof nonce === 'string') this.#nonce = nonce
      const json = /\bjson\b/.test(response.headers['content-type'] ?? '')
      const value = (json && text ? JSON.parse(text) : undefined) as T
      const retryAfterMs = retryAfterOf(response.headers['retry-after'], Date.now())
      if (response.statusCode < 400)
        return {
          status: response.statusCode,
          value,
          text,
          retryAfterMs,
          location: response.headers.location ?? '',
        }
      const problem = problemOf(value as Problem | undefined, retryAfterMs)
      if (problem.type !== 'badNonce' || attempt >= nonceAttemptsMax) throw problem
    }
  }

  #exchange(url: string, method: string, body: string | undefined): Promise<Response> {
    return exchange(new URL(url), {
      method,
      body,
      headers: {
        'user-agent': 'flynn',
        ...(body === undefined
          ? {}
          : { 'content-type': 'application/jose+json', 'content-length': String(Buffer.byteLength(body)) }),
      },
      signal: this.#options.signal,
      headersTimeoutMs: acmeRequestTimeoutMs,
      idleTimeoutMs: acmeRequestTimeoutMs,
    })
  }
}
