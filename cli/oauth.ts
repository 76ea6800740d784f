// OAuth 2 with PKCE, as `flynn login` and clusters that were added by it use it (contract cli.md 12): what the issuer
// offers, a code for tokens, fresh tokens for a refresh token, and the controllers that a person may use.
import { createHash, randomBytes } from 'node:crypto'
import { errors } from './errors.ts'

export const issuerTimeoutMs = 15_000
export const outOfBand = 'urn:ietf:wg:oauth:2.0:oob'

/** `https://host/path?client_id=x`, as the configuration has it. */
export type Issuer = { readonly url: URL; readonly clientId: string }

export type Offers = {
  readonly authorization_endpoint: string
  readonly token_endpoint: string
  readonly audiences_endpoint?: string
}

export type Tokens = {
  readonly access_token: string
  readonly token_type: string
  /** Seconds. */
  readonly expires_in?: number
  readonly refresh_token?: string
  readonly refresh_token_expires_in?: number
  readonly nonce?: string
}

export type Audience = { readonly URL: string; readonly Name: string; readonly Type: string }

export function parseIssuer(text: string): Issuer {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const clientId = url?.searchParams.get('client_id')
  if (url?.protocol !== 'https:' || !clientId) throw errors.ISSUER_URL({ text })
  return { url, clientId }
}

async function answerOf<T>(issuer: Issuer, request: Promise<Response>): Promise<T> {
  const host = issuer.url.host
  const answer = await request.catch((e: Error) => {
    const reason = e.cause instanceof Error ? e.cause.message : e.message
    throw errors.ISSUER_FAILED({ host, reason }, { cause: e })
  })
  const text = await answer.text()
  let body: { readonly error?: string; readonly error_description?: string }
  try {
    body = JSON.parse(text) as typeof body
  } catch {
    throw errors.ISSUER_FAILED({ host, reason: `status ${answer.status} and no JSON` })
  }
  if (answer.ok && body.error === undefined) return body as T
  const said = [body.error, body.error_description].filter(Boolean).join(': ')
  if (body.error === 'invalid_grant') throw errors.LOGIN_AGAIN({ host, reason: said })
  throw errors.ISSUER_FAILED({ host, reason: said || `status ${answer.status}` })
}

const limit = () => ({ signal: AbortSignal.timeout(issuerTimeoutMs), redirect: 'error' as const })

export async function offersOf(issuer: Issuer): Promise<Offers> {
  const path = issuer.url.pathname === '/' ? '' : issuer.url.pathname
  const url = `${issuer.url.origin}/.well-known/oauth-authorization-server${path}`
  const offers = await answerOf<Partial<Offers>>(issuer, fetch(url, limit()))
  const { authorization_endpoint, token_endpoint } = offers
  if (!authorization_endpoint || !token_endpoint)
    throw errors.ISSUER_FAILED({ host: issuer.url.host, reason: 'it names no endpoints' })
  return { ...offers, authorization_endpoint, token_endpoint }
}

/** What one login is known by: only who began it can end it. */
export type Attempt = {
  readonly state: string
  readonly nonce: string
  readonly verifier: string
  readonly redirect: string
}

export function beginAttempt(redirect: string): Attempt {
  const secret = () => randomBytes(32).toString('base64url')
  return { state: secret(), nonce: secret(), verifier: secret(), redirect }
}

export function authorizationUrl(
  offers: Offers,
  issuer: Issuer,
  attempt: Attempt,
  audience?: string,
): string {
  const url = new URL(offers.authorization_endpoint)
  const words = {
    client_id: issuer.clientId,
    response_type: 'code',
    redirect_uri: attempt.redirect,
    state: attempt.state,
    nonce: attempt.nonce,
    code_challenge: createHash('sha256').update(attempt.verifier).digest('base64url'),
    code_challenge_method: 'S256',
    ...(audience === undefined ? {} : { audience }),
  }
  for (const [name, value] of Object.entries(words)) url.searchParams.set(name, value)
  return url.href
}

async function askTokens(
  offers: Offers,
  issuer: Issuer,
  words: Readonly<Record<string, string>>,
): Promise<Tokens> {
  const body = new URLSearchParams({ client_id: issuer.clientId, ...words })
  const tokens = await answerOf<Tokens>(
    issuer,
    fetch(offers.token_endpoint, { method: 'POST', body, ...limit() }),
  )
  if (!tokens.access_token) throw errors.ISSUER_FAILED({ host: issuer.url.host, reason: 'it gave no token' })
  return tokens
}

export async function exchangeCode(
  offers: Offers,
  issuer: Issuer,
  attempt: Attempt,
  given: { readonly code: string; readonly audience?: string | undefined },
): Promise<Tokens> {
  const tokens = await askTokens(offers, issuer, {
    grant_type: 'authorization_code',
    code: given.code,
    redirect_uri: attempt.redirect,
    code_verifier: attempt.verifier,
    ...(given.audience === undefined ? {} : { audience: given.audience }),
  })
  // Tokens of another login than this one would let somebody else's account in.
  if (tokens.nonce !== attempt.nonce)
    throw errors.ISSUER_FAILED({ host: issuer.url.host, reason: 'its answer belongs to another login' })
  return tokens
}

export async function refreshTokens(
  offers: Offers,
  issuer: Issuer,
  refreshToken: string,
  audience: string,
): Promise<Tokens> {
  return await askTokens(offers, issuer, {
    grant_type: 'refresh_token',
    refresh_token: refreshToken,
    audience,
  })
}

/** The controllers that the person may use. */
export async function controllersOf(
  offers: Offers,
  issuer: Issuer,
  refreshToken: string,
): Promise<readonly Audience[]> {
  if (!offers.audiences_endpoint)
    throw errors.ISSUER_FAILED({ host: issuer.url.host, reason: 'it does not list controllers' })
  const headers = { authorization: `RefreshToken ${refreshToken}` }
  const { Audiences } = await answerOf<{ readonly Audiences?: readonly Audience[] }>(
    issuer,
    fetch(offers.audiences_endpoint, { headers, ...limit() }),
  )
  return (Audiences ?? []).filter(a => a.Type === 'flynn_controller')
}
