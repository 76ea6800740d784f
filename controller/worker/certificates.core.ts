// When certificates of the ACME account are ordered, renewed and tried again. Pure. Called by certificates.ts.

const minuteMs = 60_000
const hourMs = 60 * minuteMs

/** A certificate is renewed when this part of its life is over: day 60 of 90. */
const renewalPart = 2 / 3
/** Up to this part of its life earlier, drawn from its id, so that what began together is not renewed together. */
const renewalJitterPart = 1 / 12
/** Authorities count failed validations: Let's Encrypt lets five an hour be. These are four. */
export const retryMinMs = 5 * minuteMs
export const retryMaxMs = 24 * hourMs
/** Of the time between two attempts, drawn from the id. */
const retryJitterPart = 1 / 4
/** Let's Encrypt takes 300 new orders in three hours from an account. */
export const ordersPerHourMax = 80
/** Orders under way at once. */
export const ordersAtOnceMax = 4

/** 0 to 1, the same for the same id (FNV-1a). */
export function drawn(id: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193) >>> 0
  // Ids that differ in their last characters only differ in few bits so far: mixed as MurmurHash3 ends.
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return ((hash ^ (hash >>> 16)) >>> 0) / 0x1_0000_0000
}

/** When a certificate that is valid between two times should be renewed. */
export function renewalAt(id: string, notBeforeMs: number, notAfterMs: number): number {
  const lifeMs = notAfterMs - notBeforeMs
  return Math.round(notBeforeMs + lifeMs * (renewalPart - renewalJitterPart * drawn(id)))
}

/** When attempt number `attempts` (from 1) is followed by another, unless it succeeds. */
export function retryAt(
  id: string,
  attempts: number,
  nowMs: number,
  retryAfterMs: number | undefined,
): number {
  const waitMs = Math.min(retryMinMs * 2 ** Math.max(0, attempts - 1), retryMaxMs)
  const jitterMs = waitMs * retryJitterPart * drawn(`${id} ${attempts}`)
  return Math.round(nowMs + Math.max(waitMs + jitterMs, retryAfterMs ?? 0))
}

export type Waiting = {
  readonly id: string
  readonly nextMs: number
  /** The last attempt; undefined when there was none. */
  readonly triedMs: number | undefined
}

/** Ids of those to order now, longest due first, within what an authority takes. */
export function dueNow(certificates: readonly Waiting[], nowMs: number): readonly string[] {
  const recent = certificates.filter(c => c.triedMs !== undefined && c.triedMs > nowMs - hourMs).length
  return certificates
    .filter(c => c.nextMs <= nowMs)
    .toSorted((a, b) => a.nextMs - b.nextMs)
    .slice(0, Math.max(0, Math.min(ordersAtOnceMax, ordersPerHourMax - recent)))
    .map(c => c.id)
}
