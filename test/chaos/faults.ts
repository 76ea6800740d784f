// Carries a plan out on the test hosts: two tracks side by side, each fault after the one before. What a plan leaves open
// (who leads) is looked up when the fault comes. `endFaults` gives every host its power, time and network back.
import { poll, sleep } from '../../pkg/clock/clock.ts'
import type { TestHost } from '../cluster/types.ts'
import type { FlynnCluster } from '../fixtures/flynn-cluster.ts'
import { pidsOf } from './daemons.ts'
import {
  bothWays,
  type Cut,
  type DaemonName,
  daemonNames,
  type Fault,
  type Leadership,
  type Plan,
  type PlannedFault,
  tellFault,
  type Victim,
} from './plan.core.ts'

const lookTimeoutMs = 3_000
/** A daemon that a fault waits for is there again within this. */
export const daemonBackMs = 60_000
/** Of each host, where disks are to be filled. */
export const diskBytes = 6e9
const filler = '/var/lib/flynn/filler'
const membershipTimeoutMs = 60_000
const membershipTries = 5
const membershipPauseMs = 2_000

export type FaultContext = {
  readonly cluster: FlynnCluster
  readonly say: (line: string) => void
}

/** Resolves when the last fault is over. Rejects when one cannot be carried out, which is a finding too. */
export async function carryOut(context: FaultContext, plan: Plan): Promise<void> {
  const began = performance.now()
  const track = async (faults: readonly PlannedFault[]) => {
    for (const { atMs, fault } of faults) {
      await sleep(Math.max(0, began + atMs - performance.now()))
      context.say(tellFault(fault))
      await inflict(context, fault)
    }
  }
  const results = await Promise.allSettled([track(plan.machines), track(plan.processes)])
  for (const r of results) if (r.status === 'rejected') throw r.reason
}

/** Whatever a fault that broke off has left. */
export async function endFaults({ cluster }: FaultContext): Promise<void> {
  await cluster.machines.heal()
  await Promise.all(cluster.hosts.map(h => (h.alive ? h.thaw() : cluster.boot(h))))
  await Promise.all(cluster.hosts.map(h => h.run(['rm', '-f', filler])))
}

async function inflict(context: FaultContext, fault: Fault): Promise<void> {
  switch (fault.kind) {
    case 'kill':
      return kill(await find(context, fault.victim), fault.daemon)
    case 'storm':
      return storm(context, fault)
    case 'rolling-restart':
      return rollingRestart(context, fault.order)
    case 'power-off': {
      const host = await find(context, fault.victim)
      context.say(`  ${host.name} is off`)
      await host.powerOff()
      await sleep(fault.offMs)
      return context.cluster.boot(host)
    }
    case 'power-cut':
      return powerCut(context, fault)
    case 'freeze': {
      const host = await find(context, fault.victim)
      context.say(`  ${host.name} stands still`)
      await host.freeze()
      await sleep(fault.forMs)
      return host.thaw()
    }
    case 'partition':
      return partition(context, fault)
    case 'membership':
      return membership(context, fault)
    case 'disk-full':
      return fillDisk(context, fault)
  }
}

const hostNumbered = ({ cluster }: FaultContext, n: number) => cluster.machines.host(n)

async function find(context: FaultContext, victim: Victim): Promise<TestHost> {
  if (victim.type === 'host') return hostNumbered(context, victim.host)
  return (await leaderOf(context, victim.of)) ?? hostNumbered(context, 1)
}

/** The host that leads, as any host tells it; undefined when none knows. */
export async function leaderOf({ cluster }: FaultContext, of: Leadership): Promise<TestHost | undefined> {
  for (const host of cluster.hosts.filter(h => h.alive)) {
    try {
      const discoverd = cluster.discoverd(host)
      const limit = { timeoutMs: lookTimeoutMs }
      const services = { postgres: 'postgres', scheduler: 'controller-scheduler' }
      const address =
        of === 'etcd'
          ? (await discoverd.raftLeader(limit)).host
          : (await discoverd.leader(services[of], limit))?.addr
      const found = address === undefined ? undefined : await hostAt(cluster, address)
      if (found) return found
    } catch {
      // This one cannot tell; the next one may.
    }
  }
  return undefined
}

/** The host with this address, or the one on whose bridge it is. */
export async function hostAt(cluster: FlynnCluster, address: string): Promise<TestHost | undefined> {
  const ip = address.slice(0, address.lastIndexOf(':'))
  for (const host of cluster.hosts.filter(h => h.alive)) {
    if (host.address === ip) return host
    const status = await cluster
      .host(host)
      .status({ timeoutMs: lookTimeoutMs, retryMs: 0 })
      .catch(() => undefined)
    const net = (text = '') => text.split('.').slice(0, 3).join('.')
    if (status?.network && net(status.network.subnet) === net(ip)) return host
  }
  return undefined
}

/** All processes of that name; a host that is off has none. */
async function kill(host: TestHost, daemon: DaemonName, signal = '-9'): Promise<void> {
  const pids = pidsOf(host, daemon)
  if (pids.length === 0 || !host.alive) return
  // Some may have ended meanwhile, and the power may go: neither is a failure of the fault.
  await host.exec(['kill', signal, ...pids.map(String)]).catch(() => undefined)
}

async function storm(context: FaultContext, fault: Fault & { kind: 'storm' }): Promise<void> {
  const host = await find(context, fault.victim)
  for (let i = 0; i < fault.times; i++) {
    await kill(host, fault.daemon)
    await sleep(fault.pauseMs)
  }
}

async function rollingRestart(context: FaultContext, order: readonly number[]): Promise<void> {
  for (const n of order)
    for (const daemon of daemonNames) {
      const host = hostNumbered(context, n)
      const before = pidsOf(host, daemon)
      if (before.length === 0) continue
      await kill(host, daemon, '-TERM')
      // A host whose power goes meanwhile restarts nothing; a job may come back on another host.
      await poll(() => !host.alive || !pidsOf(host, daemon).some(pid => before.includes(pid)), {
        timeoutMs: daemonBackMs,
        what: `${daemon} of ${host.name} to end`,
      })
      await poll(() => !host.alive || everywhere(context, daemon) >= before.length, {
        timeoutMs: daemonBackMs,
        what: `${daemon} to be there again`,
      }).catch(() => context.say(`  ${daemon} of ${host.name} is not back`))
    }
}

const everywhere = ({ cluster }: FaultContext, daemon: DaemonName) =>
  cluster.hosts.reduce((sum, h) => sum + pidsOf(h, daemon).length, 0)

async function powerCut(context: FaultContext, fault: Fault & { kind: 'power-cut' }): Promise<void> {
  const { cluster } = context
  await Promise.all(cluster.hosts.map(h => h.powerOff()))
  await sleep(fault.offMs)
  for (const [i, n] of fault.order.entries()) {
    await sleep(fault.pausesMs[i] ?? 0)
    await cluster.boot(hostNumbered(context, n))
  }
}

async function partition(context: FaultContext, fault: Fault & { kind: 'partition' }): Promise<void> {
  const { machines, hosts } = context.cluster
  let cuts: readonly Cut[] = fault.cuts
  if (fault.shape === 'leader-alone') {
    const leader = (await leaderOf(context, fault.of)) ?? hostNumbered(context, 1)
    const alone = hosts.indexOf(leader) + 1
    context.say(`  ${leader.name} is alone`)
    cuts = bothWays(
      [alone],
      hosts.map((_, i) => i + 1).filter(n => n !== alone),
    )
  }
  for (const { from, to } of cuts)
    await machines.cut(machines.host(from), machines.host(to), { oneWay: true })
  await sleep(fault.forMs)
  await machines.heal()
}

/** Takes blocks for a file without writing them, in ever smaller pieces, until not one is left. */
const fill = `
end=0 size=${diskBytes}
while [ $size -ge 4096 ]; do
  if [ $((end + size)) -le ${diskBytes} ] && fallocate -o $end -l $size ${filler} 2>/dev/null
  then end=$((end + size))
  else size=$((size / 2))
  fi
done
`

async function fillDisk(context: FaultContext, fault: Fault & { kind: 'disk-full' }): Promise<void> {
  const host = await find(context, fault.victim)
  // The disk has a size of its own (stage.ts); should it not, this machine's own is not filled.
  await host.run(['sh', '-c', fill])
  const free = await host.run(['df', '--output=avail', filler])
  context.say(`  ${host.name} has ${free.trim().split('\n').at(-1)} KB left`)
  await sleep(fault.forMs)
  await host.run(['rm', '-f', filler])
}

/** Both may be refused while something else is broken, or for some seconds after another change. */
async function membership(context: FaultContext, fault: Fault & { kind: 'membership' }): Promise<void> {
  const host = await find(context, fault.victim)
  await changePeer(context, 'demote', host)
  await sleep(fault.forMs)
  await changePeer(context, 'promote', host)
}

async function changePeer(
  { cluster, say }: FaultContext,
  command: 'demote' | 'promote',
  host: TestHost,
): Promise<void> {
  const from = cluster.hosts.find(h => h.alive && h !== host) ?? host
  for (let i = 0; i < membershipTries; i++) {
    const answer = await from
      .exec(['flynn-host', command, host.address], { timeoutMs: membershipTimeoutMs })
      .catch((e: unknown) => ({ code: -1, stderr: String(e) }))
    if (answer.code === 0) return
    say(`  ${command} of ${host.name}: ${answer.stderr.trim().split('\n').at(-1)}`)
    await sleep(membershipPauseMs)
  }
}
