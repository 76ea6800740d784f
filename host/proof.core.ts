// How a host shows that it has the key of its cluster without telling it: a digest over a number that the asker chose and the
// address that it asked. A stranger who passes the question on gets an answer for another address. Pure.
import { createHmac, timingSafeEqual } from 'node:crypto'

/** Hex digits of the asker's number. */
export const nonceLength = 32
/** Says what is signed, so that the digest means nothing elsewhere. */
const purpose = 'flynn-host prove v1'

export function proofOf(key: string, nonce: string, address: string): string {
  return createHmac('sha256', key).update(`${purpose}\0${nonce}\0${address}`).digest('hex')
}

export function isProof(proof: unknown, key: string, nonce: string, address: string): boolean {
  const wanted = Buffer.from(proofOf(key, nonce, address))
  const given = Buffer.from(typeof proof === 'string' ? proof : '')
  return given.length === wanted.length && timingSafeEqual(given, wanted)
}
