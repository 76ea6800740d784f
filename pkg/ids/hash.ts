// Ids that follow from content: the same value always has the same id, so pure cores may use them.
import { createHash } from 'node:crypto'

/** discoverd's instance id: md5 of `proto-addr` in hex (contract discoverd.md 3.4). */
export function instanceId(proto: string, addr: string): string {
  return createHash('md5').update(`${proto}-${addr}`).digest('hex')
}

/** A canonical JSON string: only the quote and the backslash are escaped, control characters stand as they are. */
function canonicalString(text: string): string {
  return `"${text.replaceAll(/["\\]/g, '\\$&')}"`
}

/**
 * JSON with keys sorted bytewise and no white space: the form that content ids are taken of (contract host.md 4.6,
 * system-apps.md 4.3). Not meant to be parsed again: a string with control characters is no standard JSON in it.
 */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(v => canonicalJson(v ?? null)).join(',')}]`
  if (value !== null && typeof value === 'object') {
    const members = Object.entries(value)
      .filter(([, v]) => v !== undefined)
      .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
      .map(([k, v]) => `${canonicalString(k)}:${canonicalJson(v)}`)
    return `{${members.join(',')}}`
  }
  return typeof value === 'string' ? canonicalString(value) : JSON.stringify(value)
}

export function sha512_256(data: string | Uint8Array): string {
  return createHash('sha512-256').update(data).digest('hex')
}
