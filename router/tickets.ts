// Keys of TLS session tickets: derived from the cluster's cookie key and the day, so that a session begun at one router
// is resumed at any other and after a restart, and none is accepted for longer than two days. RFC 5077, RFC 8446 2.2.
import { hkdfSync } from 'node:crypto'

const dayMs = 86_400_000
/** HAProxy's length of a key with AES-256. */
const keyBytes = 80

/** Yesterday's, today's and tomorrow's key in base64. HAProxy encrypts with the last but one. */
export function ticketKeys(cookieKey: string, now: Date): readonly string[] {
  const today = Math.floor(now.getTime() / dayMs)
  return [today - 1, today, today + 1].map(day => ticketKey(cookieKey, day))
}

function ticketKey(cookieKey: string, day: number): string {
  const key = hkdfSync('sha256', Buffer.from(cookieKey, 'base64'), '', `flynn router ticket ${day}`, keyBytes)
  return Buffer.from(key).toString('base64')
}
