// Signing requests of certificates. A file of its own because few processes need the library, and those seldom.
import 'reflect-metadata'
import { createPrivateKey, createPublicKey, webcrypto } from 'node:crypto'
import * as x509 from '@peculiar/x509'

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

/** The signing request for one name, as base64url of its DER form (7.4). */
export async function signingRequest(domain: string, keyPem: string): Promise<string> {
  x509.cryptoProvider.set(webcrypto as never)
  const der = createPrivateKey(keyPem).export({ type: 'pkcs8', format: 'der' })
  const privateKey = await webcrypto.subtle.importKey('pkcs8', der, algorithm, false, ['sign'])
  const spki = createPublicKey(keyPem).export({ type: 'spki', format: 'der' })
  const publicKey = await webcrypto.subtle.importKey('spki', spki, algorithm, true, ['verify'])
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    keys: { privateKey, publicKey } as never,
    signingAlgorithm: algorithm,
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: domain }])],
  })
  return Buffer.from(request.rawData).toString('base64url')
}
