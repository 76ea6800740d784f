// Certificates of a cluster: an own authority and a leaf signed by it, RSA 2048, five years, key as PKCS#1
// (contract host.md 7.3, gen-tls-cert), and the pin that the CLI checks (contract controller.md 1.4).
import 'reflect-metadata'
import { createHash, createPrivateKey, randomBytes, webcrypto, X509Certificate } from 'node:crypto'
import * as x509 from '@peculiar/x509'

export const certificateDays = 5 * 365

export type ClusterCertificate = {
  readonly ca_cert: string
  readonly cert: string
  readonly private_key: string
  readonly pin: string
}

const algorithm = {
  name: 'RSASSA-PKCS1-v1_5',
  hash: 'SHA-256',
  publicExponent: new Uint8Array([1, 0, 1]),
  modulusLength: 2048,
}

function newKeys(): Promise<CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']) as Promise<CryptoKeyPair>
}

type CryptoKeyPair = webcrypto.CryptoKeyPair

async function toPkcs1(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key))
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
    .export({ type: 'pkcs1', format: 'pem' })
    .toString()
}

/** Standard base64 of the SHA-256 of a PEM certificate's DER form. Throws on something that is no certificate. */
export function certificatePin(certPem: string): string {
  return createHash('sha256').update(new X509Certificate(certPem).raw).digest('base64')
}

/** An authority of its own for this one leaf; the authority's key is thrown away. The first host is the common name. */
export async function createClusterCertificate(
  hosts: readonly [string, ...string[]],
  now: Date,
): Promise<ClusterCertificate> {
  x509.cryptoProvider.set(webcrypto as never)
  const notBefore = new Date(now.getTime() - 60 * 60 * 1000)
  const notAfter = new Date(now.getTime() + certificateDays * 24 * 60 * 60 * 1000)
  const caKeys = await newKeys()
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: randomBytes(15).toString('hex'),
    name: 'O=Flynn, OU=Flynn Ephemeral CA',
    notBefore,
    notAfter,
    keys: caKeys as never,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  })
  const keys = await newKeys()
  const leaf = await x509.X509CertificateGenerator.create({
    serialNumber: randomBytes(15).toString('hex'),
    subject: `O=Flynn, CN=${hosts[0]}`,
    issuer: ca.subject,
    notBefore,
    notAfter,
    publicKey: keys.publicKey as never,
    signingKey: caKeys.privateKey as never,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment,
        true,
      ),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(hosts.map(value => ({ type: 'dns' as const, value }))),
    ],
  })
  const cert = `${leaf.toString('pem')}\n`
  return {
    ca_cert: `${ca.toString('pem')}\n`,
    cert,
    private_key: await toPkcs1(keys.privateKey),
    pin: certificatePin(cert),
  }
}
