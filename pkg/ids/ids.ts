// Identifiers. `<hostID>-<uuid>` job ids split at the first dash (contract host.md 0.1).
import { randomBytes, randomUUID } from 'node:crypto'

export { canonicalJson, instanceId, sha512_256 } from './hash.ts'

export function uuid(): string {
  return randomUUID()
}

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

export function isUuid(text: string): boolean {
  return uuidPattern.test(text)
}

export function jobId(hostId: string, id: string = uuid()): string {
  return `${hostId}-${id}`
}

/** Splits a job id at its first dash; undefined when a half is missing. */
export function parseJobId(id: string): { readonly hostId: string; readonly uuid: string } | undefined {
  const dash = id.indexOf('-')
  if (dash <= 0 || dash === id.length - 1) return undefined
  return { hostId: id.slice(0, dash), uuid: id.slice(dash + 1) }
}

export function randomHex(bytes: number): string {
  return randomBytes(bytes).toString('hex')
}
