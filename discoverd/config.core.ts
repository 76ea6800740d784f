// Peer list rules of contract discoverd.md 1.1, as pure functions over the texts of flags and environment.
import { splitHostPort } from './validate.core.ts'

export type PeerList = {
  /** `ip:port`, every port being our own; never empty. */
  readonly peers: readonly string[]
  /** Whether the advertised address is in the list. */
  readonly listed: boolean
}

function splitList(text: string): readonly string[] {
  return text
    .split(',')
    .map(s => s.trim())
    .filter(s => s !== '')
}

export function joinHostPort(host: string, port: string): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** The peers as all hosts agree on them; a text says which entry is wrong. */
export function normalisePeers(text: string, host: string, port: string): PeerList | string {
  const own = joinHostPort(host, port)
  const peers: string[] = []
  for (const entry of splitList(text)) {
    const split = splitHostPort(entry)
    if (typeof split === 'string') return `invalid peer ${entry}: ${split}`
    const peer = joinHostPort(split.host, port)
    if (!peers.includes(peer)) peers.push(peer)
  }
  if (peers.length === 0) return { peers: [own], listed: true }
  return { peers, listed: peers.includes(own) }
}

/** Upstream resolvers with their port: bare addresses get 53 (contract 11.3). */
export function normaliseRecursors(text: string): readonly string[] {
  return splitList(text).map(entry => {
    if (typeof splitHostPort(entry) !== 'string') return entry
    return joinHostPort(entry.replace(/^\[|\]$/g, ''), '53')
  })
}
