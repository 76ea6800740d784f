// What the simulator's tests share: process types, formations, disturbances by lot, and what a cluster at rest is like.
import assert from 'node:assert/strict'
import { wantedJobs } from './formation.core.ts'
import type { World } from './simulator.ts'
import { isLive, type SimHost } from './simulator-host.ts'
import { indexProblem } from './simulator-rules.ts'
import { type Formation, formationKey, type HostJob, type Process } from './state.core.ts'

const plain: Process = { omni: false, volumes: [], asks: { memoryBytes: 1, cpuMillis: 1 }, args: [] }
export const types: Readonly<Record<string, Process>> = {
  web: { ...plain, service: 'svc' },
  worker: plain,
  agent: { ...plain, omni: true },
  db: { ...plain, volumes: [{ path: '/data', deleteOnStop: false }] },
  cache: { ...plain, volumes: [{ path: '/tmp', deleteOnStop: true }] },
}

/** Formations of one world; each is newer than those before it. */
export class Formations {
  #updates = 0

  make(app: string, release: string, counts: Record<string, number>, system = false): Formation {
    this.#updates++
    return {
      key: formationKey(app, release),
      appId: app,
      releaseId: release,
      system,
      critical: false,
      meta: {},
      updatedAtUs: this.#updates,
      counts,
      tags: {},
      processes: types,
      scale: { id: `scale-${this.#updates}` },
    }
  }
}

function randomCounts(world: World): Record<string, number> {
  return {
    web: world.random.below(4),
    worker: world.random.below(4),
    agent: world.random.below(2),
    db: world.random.below(3),
    cache: world.random.below(2),
  }
}

/** One random thing that can go wrong with a machine or a process. */
export function breakSomething(world: World): void {
  const hosts = [...world.hosts.values()]
  const host = hosts[world.random.below(hosts.length)]
  if (host === undefined) return
  const choice = world.random.below(11)
  if (choice === 0 && host.alive) host.powerOff()
  else if (choice === 0) host.powerOn()
  else if (choice === 1 && host.cut) host.heal()
  else if (choice === 1) host.cutOff()
  else if (choice === 2 && !host.frozen) {
    host.freeze()
    world.at(5_000 + world.random.below(55_000), () => host.thaw())
  } else if (choice === 3 && world.random.below(4) === 0) host.leave()
  else if (choice === 4) world.replaceScheduler()
  else if (choice === 5) world.freezeScheduler(5_000 + world.random.below(40_000))
  else if (choice === 6 && !world.table.away) {
    world.table.away = true
    world.at(world.random.below(90_000), () => {
      world.table.away = false
    })
  } else if (choice === 7 && hosts.length < 5 && world.random.below(3) === 0)
    world.addHost(`h${hosts.length + 1}`)
  else if (choice === 8) world.setDraining(host, !host.draining)
  else {
    const job = [...host.jobs.values()].filter(isLive)[world.random.below(4)]
    if (job) host.end(job.uuid, 'crashed', 137)
  }
}

/** One random thing that can go wrong, or that somebody wants. */
export function disturb(world: World, formations: Formations): void {
  if (world.random.below(10) < 6) {
    breakSomething(world)
    return
  }
  const app = world.random.below(3)
  const release = `r${world.random.below(2)}`
  world.setFormation(formations.make(`app${app}`, release, randomCounts(world), app === 0))
}

function runningJobs(world: World): readonly HostJob[] {
  return [...world.hosts.values()].flatMap(h => [...h.jobs.values()].filter(j => j.status === 'running'))
}

/** What a start that was refused left behind holds nothing. */
function isData(world: World, id: string): boolean {
  const volume = world.scheduler.state.volumes.get(id)
  return volume?.state === 'created' && !volume.deleteOnStop
}

/** Live jobs that should have left a host that is drained. */
function leftOn(world: World, host: SimHost): readonly string[] {
  return [...host.jobs.values()]
    .filter(j => isLive(j) && !types[j.type]?.omni)
    .map(j => `${j.type} ${j.uuid}`)
    .concat([...host.volumes].filter(id => isData(world, id)))
}

/** Data in use on a host, of which the leader believes that it is elsewhere, or no more: the next job would start without it. */
function lostSight(world: World, host: SimHost): readonly string[] {
  return [...host.volumes].filter(id => {
    const known = world.scheduler.state.volumes.get(id)
    if (known === undefined || known.deleteOnStop || known.state === 'pending' || host.fences.has(id))
      return false
    // What a start that was refused left behind is not in use.
    return known.state === 'destroyed' || !world.hosts.get(known.hostId)?.volumes.has(id)
  })
}

/** So that there is somewhere to run. */
export function leaveOneHostDraining(world: World): void {
  const [first, ...others] = [...world.hosts.values()].filter(h => h.draining)
  for (const host of others) world.setDraining(host, false)
  if (first && world.hosts.size === 1) world.setDraining(first, false)
}

/** What is not yet as it was asked for; undefined when all is. */
export function unrest(world: World): string | undefined {
  const { state } = world.scheduler
  for (const f of world.formations.values()) {
    for (const type of Object.keys(f.processes)) {
      const wanted = wantedJobs(state, f, type)
      const live = world.liveJobs(f.key, type)
      const running = live.filter(j => j.status === 'running')
      if (live.length !== wanted || running.length !== wanted)
        return `${f.key} ${type}: ${wanted} wanted, ${live.length} live, ${running.length} run`
      if (f.processes[type]?.omni)
        for (const host of world.hosts.values())
          if (live.filter(j => j.hostId === host.id).length !== (f.counts[type] ?? 0))
            return `${f.key} ${type} on ${host.id}`
    }
    if (f.scale !== undefined && world.table.finishedScales.get(f.scale.id) !== 'complete')
      return `scale of ${f.key} is not complete`
  }
  for (const host of world.hosts.values())
    if (host.draining && leftOn(world, host).length > 0)
      return `left on ${host.id}, which is drained: ${leftOn(world, host)}`
  for (const host of world.hosts.values())
    if (lostSight(world, host).length > 0) return `unknown data on ${host.id}: ${lostSight(world, host)}`
  for (const host of world.hosts.values())
    if (host.fences.size > 0) return `copies that move on ${host.id}: ${[...host.fences.keys()]}`
  const running = runningJobs(world).map(j => `${j.uuid} up ${j.hostId}`)
  const rows = [...world.table.rows]
    .filter(([, row]) => row.state !== 'down')
    .map(([uuid, row]) => `${uuid} ${row.state} ${row.hostId}`)
  if (running.sort().join() !== rows.sort().join())
    return `the controller's table: ${rows.join(', ')}; running: ${running.join(', ')}`
  return undefined
}

/** How long a healed cluster may take: restarts wait up to 30 s, lost messages are made good by syncs of 60 s. */
export const restMs = 10 * 60_000

/** Lets the world come to rest, and stay so for a while with nothing started or stopped. */
export function settle(world: World): void {
  leaveOneHostDraining(world)
  // What went on before may still be unknown to some.
  world.run(30_000)
  const end = world.nowMs + restMs
  while (unrest(world) !== undefined && world.nowMs < end) world.run(10_000)
  assert.equal(unrest(world), undefined)
  const { starts, stops } = world
  world.run(90_000)
  assert.equal(unrest(world), undefined)
  assert.deepEqual([world.starts, world.stops], [starts, stops], 'a cluster at rest is left alone')
  assert.deepEqual(world.violations, [])
  assert.equal(indexProblem(world.scheduler.state), undefined)
  assertNothingTwice(world)
}

function assertNothingTwice(world: World): void {
  const uuids = runningJobs(world).map(j => j.uuid)
  assert.equal(new Set(uuids).size, uuids.length, 'a job runs twice')
}

/** Runs one world after the other; what fails says how to see it again. */
export function forSeeds(file: string, count: number, run: (seed: number) => void): void {
  const only = process.env['SIM_SEED']
  const many = Number(process.env['SIM_SEEDS'] ?? count)
  const seeds = only === undefined ? Array.from({ length: many }, (_, i) => i + 1) : [Number(only)]
  for (const seed of seeds)
    try {
      run(seed)
    } catch (cause) {
      const again = `SIM_SEED=${seed} node --test controller/scheduler/${file}`
      throw new Error(
        `seed ${seed}: ${cause instanceof Error ? cause.message : cause}\nreplay it: ${again}`,
        {
          cause,
        },
      )
    }
}
