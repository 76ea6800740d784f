// Signed requests of ACME (RFC 8555 6.2, RFC 7515) with an ES256 account key, and the key's thumbprint (RFC 7638).
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto'

export type Jwk = { readonly crv: string; readonly kty: string; readonly x: string; readonly y: string }

/** The public half of a PKCS#8 PEM key, members in the order that the thumbprint wants. */
export function jwkOf(keyPem: string): Jwk {
  const { crv = '', kty = '', x = '', y = '' } = createPublicKey(keyPem).export({ format: 'jwk' })
  return { crv, kty, x, y }
}

/** What follows the token in every answer to a challenge (RFC 8555 8.1). */
export function thumbprintOf(keyPem: string): string {
  return createHash('sha256')
    .update(JSON.stringify(jwkOf(keyPem)))
    .digest('base64url')
}

/** A new P-256 key as PKCS#8 PEM. */
export function newKey(): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
}

const encoded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

export type Signed = {
  readonly keyPem: string
  readonly url: string
  readonly nonce: string
  /** The account's URL; the key itself is sent when there is none yet. */
  readonly account: string | undefined
  /** Undefined reads the resource (POST-as-GET, 6.3). */
  readonly payload: unknown
}

/** The body of a request. */
export function signedBody({ keyPem, url, nonce, account, payload }: Signed): string {
  const who = account === undefined ? { jwk: jwkOf(keyPem) } : { kid: account }
  const head = encoded({ alg: 'ES256', ...who, nonce, url })
  const body = payload === undefined ? '' : encoded(payload)
  const signature = sign('sha256', Buffer.from(`${head}.${body}`), {
    key: createPrivateKey(keyPem),
    dsaEncoding: 'ieee-p1363',
  })
  return JSON.stringify({ protected: head, payload: body, signature: signature.toString('base64url') })
}
