// Who is calling: one of the cluster's keys, or a signed access token (contract controller.md 1.3). Both give an
// identity, which the audit log names. Neither keys nor tokens are kept or logged; fingerprints are.
import { createHash, createPublicKey, type KeyObject, timingSafeEqual, verify } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { errors } from '../errors.ts'
import { decodeFields, timeField } from './protobuf.core.ts'

export const tokenValidityDefaultSeconds = 3_600
export const tokenBytesMax = 8 * 1024

export type Identity = {
  /** Label of the key, else a fingerprint. */
  readonly id: string
  /** E-mail address of a token's user. */
  readonly user?: string
}

export type AuthConfig = {
  readonly keys: readonly string[]
  /** Labels of the keys; used when there are as many. */
  readonly keyIds: readonly string[]
  /** Verifies tokens; none are accepted without it. */
  readonly tokenKey: KeyObject | undefined
  readonly tokenValidityMaxSeconds: number
}

function split(text: string | undefined): readonly string[] {
  return (text ?? '').split(',').flatMap(item => item.trim() || [])
}

/** From the process's environment; throws when there is no key, or a token key that is none. */
export function authFromEnv(env: NodeJS.ProcessEnv): AuthConfig {
  const keys = split(env['AUTH_KEY'])
  if (keys.length === 0) throw errors.NO_AUTH_KEY()
  const text = env['ACCESS_TOKEN_KEY']
  const validity = Number(env['ACCESS_TOKEN_MAX_VALIDITY'] || tokenValidityDefaultSeconds)
  if (!Number.isInteger(validity) || validity <= 0) throw errors.TOKEN_VALIDITY()
  let tokenKey: KeyObject | undefined
  try {
    if (text) tokenKey = createPublicKey({ key: Buffer.from(text, 'base64url'), format: 'der', type: 'spki' })
  } catch (cause) {
    throw errors.TOKEN_KEY({}, { cause })
  }
  return { keys, keyIds: split(env['AUTH_KEY_IDS']), tokenKey, tokenValidityMaxSeconds: validity }
}

function sameText(given: string, accepted: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given), digest(accepted))
}

/** Every key is compared, so that the time tells nothing. */
function keyIdentity(given: string, config: AuthConfig): Identity | undefined {
  let found: number | undefined
  for (const [index, key] of config.keys.entries()) if (sameText(given, key)) found ??= index
  if (found === undefined) return undefined
  const label = config.keyIds.length === config.keys.length ? config.keyIds[found] : undefined
  const fingerprint = createHash('sha256').update(given).digest('hex').slice(0, 12)
  return { id: label ?? `key:${fingerprint}` }
}

/** The identity in a token that the token key signed and whose time has come and not passed. */
export function tokenIdentity(token: string, config: AuthConfig, nowMs: number): Identity | undefined {
  if (config.tokenKey === undefined || token.length > tokenBytesMax) return undefined
  const bytes = Buffer.from(token.slice(token.indexOf('.') + 1), 'base64url')
  const signed = decodeFields(bytes)
  const [data, signature] = [signed?.get(1), signed?.get(2)]
  if (!(data instanceof Uint8Array) || !(signature instanceof Uint8Array)) return undefined
  if (!verify('sha256', data, config.tokenKey, signature)) return undefined
  const fields = decodeFields(data)
  const issued = timeField(fields?.get(4))
  const expires = timeField(fields?.get(5))
  if (issued === undefined || expires === undefined) return undefined
  if (expires - issued > config.tokenValidityMaxSeconds || nowMs >= expires * 1000) return undefined
  const email = fields?.get(3)
  const user = email instanceof Uint8Array ? Buffer.from(email).toString() : ''
  return {
    id: createHash('sha256').update(bytes).digest('base64url'),
    ...(user === '' ? {} : { user }),
  }
}

/** The credentials of a request: a key, a token, or nothing. */
function credentials(headers: IncomingHttpHeaders): { readonly key?: string; readonly token?: string } {
  const header = headers['auth-key']
  if (typeof header === 'string' && header !== '') return { key: header }
  const [, scheme = '', value = ''] = /^(\w+)\s+(\S+)\s*$/.exec(headers.authorization ?? '') ?? []
  if (scheme.toLowerCase() === 'bearer') return { token: value }
  if (scheme.toLowerCase() !== 'basic') return {}
  const text = Buffer.from(value, 'base64').toString()
  const at = text.indexOf(':')
  const [user, password] = [text.slice(0, Math.max(0, at)), text.slice(at + 1)]
  return user === 'Bearer' ? { token: password } : { key: password }
}

/** True for a request that names no credentials at all. */
export function isAnonymous(headers: IncomingHttpHeaders): boolean {
  const { key, token } = credentials(headers)
  return !key && !token
}

/** Who sent these headers; undefined when that is nobody we know. */
export function identify(headers: IncomingHttpHeaders, config: AuthConfig): Identity | undefined {
  const { key, token } = credentials(headers)
  if (token !== undefined) return tokenIdentity(token, config, Date.now())
  return key ? keyIdentity(key, config) : undefined
}
