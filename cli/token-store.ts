// Tokens of OAuth clusters in ~/.flynn/tokens (contract cli.md 3, 12), readable by their owner only, in the layout of the
// original; and the token that a call to a controller carries, made anew shortly before it expires.
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { errors } from './errors.ts'
import { type Issuer, offersOf, parseIssuer, refreshTokens, type Tokens } from './oauth.ts'

/** A token that has less left than this is made anew. */
export const renewBeforeMs = 60_000
const validityDefaultSeconds = 300

type Access = { readonly access_token: string; readonly expiry: string; readonly token_type: string }

export type Stored = {
  readonly refresh_token: string
  readonly refresh_token_expiry?: string
  readonly refresh_token_issue_time?: string
  /** By the URL of the controller. */
  readonly access_tokens: Readonly<Record<string, Access>>
}

function fileOf({ url, clientId }: Issuer): string {
  return join(homedir(), '.flynn', 'tokens', url.host, `${encodeURIComponent(clientId)}.json`)
}

export async function loadTokens(issuer: Issuer): Promise<Stored | undefined> {
  try {
    return JSON.parse(await readFile(fileOf(issuer), 'utf8')) as Stored
  } catch {
    // Missing or broken: a login makes it anew.
    return undefined
  }
}

async function save(issuer: Issuer, stored: Stored): Promise<void> {
  const file = fileOf(issuer)
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  const temporary = `${file}.${process.pid}`
  await writeFile(temporary, JSON.stringify(stored), { mode: 0o600 })
  await rename(temporary, file)
}

/** Keeps what the issuer gave; the refresh token stays when it gave no new one. */
export async function keepTokens(
  issuer: Issuer,
  tokens: Tokens,
  audience: string | undefined,
): Promise<Stored> {
  const before = await loadTokens(issuer)
  const now = Date.now()
  const after = (seconds: number) => new Date(now + seconds * 1000).toISOString()
  const access = {
    access_token: tokens.access_token,
    token_type: tokens.token_type || 'Bearer',
    expiry: after(tokens.expires_in ?? validityDefaultSeconds),
  }
  const stored: Stored = {
    ...before,
    refresh_token: tokens.refresh_token ?? before?.refresh_token ?? '',
    ...(tokens.refresh_token === undefined ? {} : { refresh_token_issue_time: after(0) }),
    ...(tokens.refresh_token_expires_in === undefined
      ? {}
      : { refresh_token_expiry: after(tokens.refresh_token_expires_in) }),
    access_tokens: { ...before?.access_tokens, ...(audience === undefined ? {} : { [audience]: access }) },
  }
  await save(issuer, stored)
  return stored
}

/** A token for the controller that is good for a while; rejects LOGIN_AGAIN when a person has to log in. */
export async function accessToken(oauthUrl: string, controllerUrl: string): Promise<Access> {
  const issuer = parseIssuer(oauthUrl)
  const stored = await loadTokens(issuer)
  const cached = stored?.access_tokens[controllerUrl]
  if (cached && Date.parse(cached.expiry) - Date.now() > renewBeforeMs) return cached
  if (!stored?.refresh_token) throw errors.LOGIN_AGAIN({ host: issuer.url.host, reason: 'no login is kept' })
  const tokens = await refreshTokens(await offersOf(issuer), issuer, stored.refresh_token, controllerUrl)
  const kept = (await keepTokens(issuer, tokens, controllerUrl)).access_tokens[controllerUrl]
  if (!kept) throw errors.LOGIN_AGAIN({ host: issuer.url.host, reason: 'it gave no token' })
  return kept
}
