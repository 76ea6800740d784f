// Whether this host runs an etcd member, and how it starts. A member is known by the data it holds, not by its address:
// data on disk makes it a member even when the configured peer list (from another time) does not name it. An empty
// directory must never pose as a member that had voted before. Pure; carried out by member.ts.

export type KnownMember = { readonly peerUrls: readonly string[]; readonly started: boolean }

export type MemberPlan =
  /** Go on with the data that is there. */
  | { readonly kind: 'resume' }
  /** Found the cluster, together with the other configured peers when there are any. */
  | { readonly kind: 'found'; readonly initialCluster: string }
  /** Added by somebody, not started yet: fetch the data from the others. */
  | { readonly kind: 'join'; readonly initialCluster: string }
  | {
      readonly kind: 'proxy'
      readonly reason: 'not_a_peer' | 'not_a_member' | 'data_lost' | 'was_here_before'
    }

/** A member that runs: everything but a proxy. */
export type ActivePlan = Exclude<MemberPlan, { kind: 'proxy' }>

export const peerUrl = (host: string): string => `http://${host.includes(':') ? `[${host}]` : host}:2380`

/** Text of etcd's `initial-cluster`: only our own name matters, the others are known by their URLs. */
export function initialCluster(name: string, own: string, urls: readonly string[]): string {
  return urls.map((url, i) => `${url === own ? name : `peer${i}`}=${url}`).join(',')
}

export function planMember(facts: {
  readonly hasData: boolean
  readonly listed: boolean
  readonly name: string
  readonly host: string
  /** Hosts of the configured peers, ours among them when listed. */
  readonly peerHosts: readonly string[]
  /** The cluster's members as another peer tells them; undefined when none answers. */
  readonly members: readonly KnownMember[] | undefined
  /** This host has been part of a cluster: as a proxy, or as a peer whose data is gone or was given up. */
  readonly history: boolean
}): MemberPlan {
  if (facts.hasData) return { kind: 'resume' }
  const own = peerUrl(facts.host)
  if (facts.members) {
    const self = facts.members.find(m => m.peerUrls.includes(own))
    if (!self) return { kind: 'proxy', reason: facts.listed ? 'not_a_member' : 'not_a_peer' }
    if (self.started) return { kind: 'proxy', reason: 'data_lost' }
    const urls = facts.members.flatMap(m => m.peerUrls.slice(0, 1))
    return { kind: 'join', initialCluster: initialCluster(facts.name, own, urls) }
  }
  if (!facts.listed) return { kind: 'proxy', reason: 'not_a_peer' }
  // The others may only be off: founding anew beside them would make two clusters of one.
  if (facts.history) return { kind: 'proxy', reason: 'was_here_before' }
  return { kind: 'found', initialCluster: initialCluster(facts.name, own, facts.peerHosts.map(peerUrl)) }
}

/** Arguments of etcd. Timing: writes work again 0.8 s after the leader died, measured. */
export function etcdArgs(options: {
  readonly name: string
  readonly dataDir: string
  readonly host: string
  readonly loopback: boolean
  readonly plan: ActivePlan
  /** Start anew as the only member, with the data that is there (`flynn-host recover`). */
  readonly forceNew?: boolean
}): readonly string[] {
  const { host, plan } = options
  const bracketed = host.includes(':') ? `[${host}]` : host
  const client = `http://${bracketed}:2379`
  const listen = options.loopback && host !== '127.0.0.1' ? `${client},http://127.0.0.1:2379` : client
  const initial = plan.kind === 'resume' ? `${options.name}=${peerUrl(host)}` : plan.initialCluster
  const flags: Readonly<Record<string, string>> = {
    name: options.name,
    'data-dir': options.dataDir,
    'listen-client-urls': listen,
    'advertise-client-urls': client,
    'listen-peer-urls': peerUrl(host),
    'initial-advertise-peer-urls': peerUrl(host),
    'initial-cluster': initial,
    'initial-cluster-state': plan.kind === 'found' ? 'new' : 'existing',
    'initial-cluster-token': 'flynn',
    // As few as etcd allows with such elections: at rest it takes 0.8 % of a core with these, 1.15 with one each 50 ms.
    'heartbeat-interval': '100',
    'election-timeout': '500',
    'pre-vote': 'true',
    'grpc-keepalive-min-time': '500ms',
    // Its data are in the log before they are acknowledged; this is how often they go to their place, ten times a second by itself.
    'backend-batch-interval': '1s',
    'quota-backend-bytes': String(512 * 1024 * 1024),
    'auto-compaction-mode': 'periodic',
    'auto-compaction-retention': '10m',
    'snapshot-count': '10000',
    logger: 'zap',
    'log-level': 'warn',
    'log-outputs': 'stderr',
  }
  const force = options.forceNew ? ['--force-new-cluster'] : []
  return [...Object.entries(flags).map(([k, v]) => `--${k}=${v}`), ...force]
}
