// Certificates of http routes (contract controller.md 2.10): trimmed, checked as a pair, kept once per PEM text.
import { createHash, createPrivateKey, X509Certificate } from 'node:crypto'
import { type Selectable, sql } from 'kysely'
import type { FlynnError } from '../../pkg/errors/errors.ts'
import { errors } from '../errors.ts'
import type { Tables } from '../schema/tables.ts'
import type { Db, Tx } from '../schema/write.ts'
import type { Certificate, RouteInput } from '../types.ts'

export type KeyPair = { readonly cert: string; readonly key: string }

function invalid(text: string): FlynnError {
  return errors.INVALID({
    text: `Certificate invalid: ${text}`,
    remedy: 'send a PEM certificate, its chain after it, and the PEM private key that belongs to it',
  })
}

function trim(pem: string): string {
  return pem.replace(/^[ \r\n]+|[ \r\n]+$/g, '')
}

/** Rejects anything but a certificate and the private key that belongs to it. */
export function checkKeyPair(pair: KeyPair): void {
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(pair.cert)
  } catch {
    throw invalid('the certificate is not PEM')
  }
  let matches: boolean
  try {
    matches = certificate.checkPrivateKey(createPrivateKey(pair.key))
  } catch {
    throw invalid('the private key is not PEM')
  }
  if (!matches) throw invalid('the private key does not match the certificate')
}

/** The pair that a route brings: the deprecated members win. Undefined when it brings none. */
export function keyPairOf(input: RouteInput): KeyPair | undefined {
  const cert = input.tls_cert || input.tls_key ? input.tls_cert : input.certificate?.cert
  const key = input.tls_cert || input.tls_key ? input.tls_key : input.certificate?.key
  if (!cert && !key) return undefined
  const pair = { cert: trim(cert ?? ''), key: trim(key ?? '') }
  checkKeyPair(pair)
  return pair
}

export function toCertificate(row: Selectable<Tables['certificates']>): Certificate {
  return {
    id: row.id,
    cert: row.cert,
    key: row.key,
    created_at: row.created_at,
    updated_at: row.updated_at,
  }
}

/** Links the pair to a route in place of what it had. */
export async function linkCertificate(tx: Tx, routeId: string, pair: KeyPair): Promise<Certificate> {
  const cert_sha256 = createHash('sha256').update(pair.cert).digest()
  const row = await tx
    .insertInto('certificates')
    .values({ cert: pair.cert, key: pair.key, cert_sha256 })
    .onConflict(conflict =>
      // The same certificate may come with its key in another encoding: the newest is kept.
      conflict
        .column('cert_sha256')
        .where('deleted_at', 'is', null)
        .doUpdateSet({ key: pair.key, updated_at: sql`now()` }),
    )
    .returningAll()
    .executeTakeFirstOrThrow()
  await unlinkCertificate(tx, routeId)
  await tx
    .insertInto('route_certificates')
    .values({ http_route_id: routeId, certificate_id: row.id })
    .execute()
  return toCertificate(row)
}

export async function unlinkCertificate(tx: Tx, routeId: string): Promise<void> {
  await tx.deleteFrom('route_certificates').where('http_route_id', '=', routeId).execute()
}

/** Certificates by the id of the route that they are linked to. */
export async function certificatesOf(
  db: Db,
  routeIds: readonly string[],
): Promise<ReadonlyMap<string, Certificate>> {
  if (routeIds.length === 0) return new Map()
  const rows = await db
    .selectFrom('certificates')
    .innerJoin('route_certificates', 'route_certificates.certificate_id', 'certificates.id')
    .selectAll('certificates')
    .select('route_certificates.http_route_id as route_id')
    .where('route_certificates.http_route_id', '=', sql<string>`ANY (${routeIds}::uuid[])`)
    .execute()
  return new Map(rows.map(row => [row.route_id, toCertificate(row)]))
}
