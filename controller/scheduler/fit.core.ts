// What keeps a host from taking a job (contract controller.md 4.5), as data: placement asks it before it chooses, `flynn
// explain` shows it. Memory is promised once, processor time several times over, as it is shared and not used up. Jobs of
// system apps are never held back for want of either: the cluster stands on them.
import { type HostLoad, noLoad } from './index.core.ts'
import type { Asks, Formation, Host, Job, Labels } from './state.core.ts'

/** Start slots of a host (contract host.md 2.2). */
export const startsPerHostMax = 4
/** How many times over a host's processor time may be promised: it is a weight, not a cap. */
export const cpuOvercommit = 4
/** A host whose starts have all been under way for so long is not waited for. */
export const slowStartMs = 15_000

export type Obstacle =
  /** It is shutting down. */
  | { readonly kind: 'leaving' }
  /** Its jobs move elsewhere; it gets only what cannot be anywhere else. */
  | { readonly kind: 'draining' }
  /** It is not in discoverd's list and does not answer. */
  | { readonly kind: 'away'; readonly failures: number }
  /** Its jobs have not been listed yet. */
  | { readonly kind: 'unread' }
  | { readonly kind: 'tag'; readonly key: string; readonly wanted: string; readonly found?: string }
  | {
      readonly kind: 'memory' | 'cpu'
      readonly wanted: number
      readonly free: number
      readonly total: number
    }
  /** The job's volume is on another host. */
  | { readonly kind: 'volume'; readonly hostId: string }
  /** The job is the share of another host in an omni process type. */
  | { readonly kind: 'pinned'; readonly hostId: string }
  /** It refused the job's last start and is passed over while others would take it. */
  | { readonly kind: 'refused' }
  /** All its start slots are taken; the job waits its turn. */
  | { readonly kind: 'busy'; readonly starts: number }

/** What a job needs of its host. */
export type Need = {
  readonly asks: Asks
  readonly tags: readonly (readonly [string, string])[]
  /** A job of a system app. */
  readonly system: boolean
  readonly pinnedHostId?: string | undefined
  /** Where its volume is. */
  readonly volumeHostId?: string | undefined
}

export function needOf(job: Job, formation: Formation, volumeHostId?: string): Need {
  return {
    asks: job.asks,
    tags: Object.entries(formation.tags[job.type] ?? ({} as Labels)),
    system: formation.system,
    pinnedHostId: job.pinnedHostId,
    volumeHostId,
  }
}

/** The first thing that forbids the host for this job; nothing when it may run there now or a little later. */
export function obstacle(need: Need, host: Host, load: HostLoad | undefined): Obstacle | undefined {
  if (need.pinnedHostId !== undefined && need.pinnedHostId !== host.id)
    return { kind: 'pinned', hostId: need.pinnedHostId }
  if (need.volumeHostId !== undefined && need.volumeHostId !== host.id)
    return { kind: 'volume', hostId: need.volumeHostId }
  if (host.shutdown) return { kind: 'leaving' }
  const bound = need.pinnedHostId ?? need.volumeHostId
  if (host.draining && bound === undefined) return { kind: 'draining' }
  if (!host.healthy) return { kind: 'away', failures: host.failures }
  if (!host.synced) return { kind: 'unread' }
  for (const [key, wanted] of need.tags) {
    const found = host.tags[key]
    if (found !== wanted) return { kind: 'tag', key, wanted, ...(found === undefined ? {} : { found }) }
  }
  return need.system ? undefined : shortage(need.asks, host, load ?? noLoad)
}

function shortage(asks: Asks, host: Host, load: HostLoad): Obstacle | undefined {
  const memory = room(asks.memoryBytes, host.memoryBytes, load.memoryBytes)
  if (memory !== undefined) return { kind: 'memory', ...memory }
  const offered = host.cpuMillis === undefined ? undefined : host.cpuMillis * cpuOvercommit
  const cpu = room(asks.cpuMillis, offered, load.cpuMillis)
  return cpu === undefined ? undefined : { kind: 'cpu', ...cpu }
}

function room(
  wanted: number,
  total: number | undefined,
  taken: number,
): { wanted: number; free: number; total: number } | undefined {
  if (total === undefined || wanted === 0 || taken + wanted <= total) return undefined
  return { wanted, free: Math.max(0, total - taken), total }
}

/** How full the host would be: the fuller of memory and processor time. Over 1 when it is promised more than it has. */
export function fullness(asks: Asks, host: Host, load: HostLoad | undefined): number {
  const { memoryBytes, cpuMillis } = load ?? noLoad
  const memory = host.memoryBytes ? (memoryBytes + asks.memoryBytes) / host.memoryBytes : 0
  const cpu = host.cpuMillis ? (cpuMillis + asks.cpuMillis) / (host.cpuMillis * cpuOvercommit) : 0
  return Math.max(memory, cpu)
}

const units = ['B', 'KB', 'MB', 'GB', 'TB']

/** Three significant digits, the unit by 1024. */
export function bytesText(value: number): string {
  let [rest, unit] = [value, 0]
  while (rest >= 1024 && unit < units.length - 1) [rest, unit] = [rest / 1024, unit + 1]
  return `${Number(rest.toPrecision(3))}${units[unit]}`
}

/** What keeps the host from taking the job, in words that follow the host's name. */
export function obstacleText(found: Obstacle): string {
  switch (found.kind) {
    case 'leaving':
      return 'is shutting down'
    case 'draining':
      return 'is being drained'
    case 'away':
      return `does not answer (${found.failures} status requests failed)`
    case 'unread':
      return 'has not listed its jobs yet'
    case 'tag':
      return `lacks the tag ${found.key}=${found.wanted}${found.found === undefined ? '' : ` (has ${found.key}=${found.found})`}`
    case 'memory':
      return `has too little memory: ${bytesText(found.wanted)} asked for, ${bytesText(found.free)} of ${bytesText(found.total)} left`
    case 'cpu':
      return `has too little processor time: ${found.wanted} asked for, ${found.free} of ${found.total} left`
    case 'volume':
      return `does not have its volume, which is on ${found.hostId}`
    case 'pinned':
      return `has its own; this job belongs on ${found.hostId}`
    case 'refused':
      return 'refused its last start'
    case 'busy':
      return `is starting ${found.starts} other jobs`
  }
}

const summaries: Readonly<Record<Obstacle['kind'], string>> = {
  leaving: 'shutting down',
  draining: 'being drained',
  away: 'not answering',
  unread: 'not read yet',
  tag: 'without its tags',
  memory: 'with too little memory',
  cpu: 'with too little processor time',
  volume: 'without its volume',
  pinned: 'that it does not belong on',
  refused: 'that refused it',
  busy: 'busy',
}

/** Why no host may run a job, in one line. */
export function whyNone(obstacles: readonly Obstacle[]): string {
  const counts = Map.groupBy(obstacles, o => o.kind)
  if (counts.size === 0) return 'there is no host'
  // Hosts that are out of the question say nothing when the one that counts is known.
  const only = [...counts].filter(([kind]) => kind !== 'volume' && kind !== 'pinned')
  const told = only.length > 0 ? only : [...counts]
  if (only.length === 0 && counts.has('volume')) return 'the host of its volume is away'
  return `no host fits: ${told.map(([kind, list]) => `${list.length} ${summaries[kind]}`).join(', ')}`
}
