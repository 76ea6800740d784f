// What must hold after every step of a scheduler in a simulated world, whatever happens around it. Used by the simulator.
import { startsPerHostMax } from './fit.core.ts'
import { type DraftIndex, emptyIndex, forkIndex, reindex } from './index.core.ts'
import type { SimScheduler } from './simulator-scheduler.ts'
import type { Effect, Event, Job, State } from './state.core.ts'

/** Contract controller.md 4.7, in seconds: five times at once, ten times 10, then 30. Written out, not computed. */
const delays = [0, 0, 0, 0, 0, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 30]
/** How often the index is compared with one made anew. */
const indexCheckEvery = 64

type Of<K extends Effect['kind']> = Extract<Effect, { kind: K }>

export class Rules {
  readonly #scheduler: SimScheduler
  readonly #violated: (text: string) => void

  constructor(scheduler: SimScheduler, violated: (text: string) => void) {
    this.#scheduler = scheduler
    this.#violated = violated
  }

  look(event: Event, effects: readonly Effect[]): void {
    const { state } = this.#scheduler
    for (const effect of effects) {
      if (effect.kind === 'place') this.#place(effect, event)
      else if (effect.kind === 'recordJob') this.#record(effect, event)
    }
    // Who does not lead changes nothing.
    const bad = state.leader ? undefined : effects.find(e => e.kind !== 'note' && e.kind !== 'inspect')
    if (bad !== undefined) this.#violated(`${bad.kind} by one who does not lead, at ${event.kind}`)
    if (this.#scheduler.events % indexCheckEvery === 0) {
      const problem = indexProblem(state) ?? backlogProblem(state)
      if (problem !== undefined) this.#violated(problem)
    }
  }

  #place(effect: Of<'place'>, event: Event): void {
    const { state } = this.#scheduler
    const job = state.jobs.get(effect.uuid)
    const host = state.hosts.get(effect.hostId)
    if (job === undefined || host === undefined) {
      this.#violated(`${effect.uuid} placed on ${effect.hostId}: one of them is unknown`)
      return
    }
    if (event.nowMs < job.notBeforeMs) this.#violated(`${job.uuid} placed before its time`)
    // Whether it runs on a host that shuts down is asked until there is an answer.
    if (!host.healthy || (host.shutdown && job.attempts === 1))
      this.#violated(`${job.uuid} placed on ${host.id}, which is away`)
    const load = state.index.loads.get(host.id)
    if (job.attempts === 1 && (load?.starts ?? 0) > startsPerHostMax)
      this.#violated(`${load?.starts} starts under way on ${host.id}`)
    if (job.attempts === 1 && !job.system && (load?.memoryBytes ?? 0) > (host.memoryBytes ?? Infinity))
      this.#violated(`${host.id} promised ${load?.memoryBytes} of ${host.memoryBytes} bytes`)
    // Asking again whether a start came through: the host's own table keeps a second writer out.
    if (job.attempts > 1) return
    for (const volume of effect.volumes)
      for (const uuid of state.index.holders.of(volume.id))
        if (uuid !== job.uuid && state.jobs.get(uuid)?.onHost)
          this.#violated(`volume ${volume.id} given to ${job.uuid} while ${uuid} holds it`)
  }

  /** A job made for one that crashed waits exactly as long as the contract says. */
  #record({ job, state }: Of<'recordJob'>, event: Event): void {
    if (state !== 'pending' || job.createdMs !== event.nowMs || job.notBeforeMs === 0) return
    const before = job.restarts - 1
    const wanted = (delays[Math.min(before, delays.length - 1)] ?? 0) * 1000
    if (job.notBeforeMs - event.nowMs !== wanted)
      this.#violated(`restart ${job.restarts} waits ${job.notBeforeMs - event.nowMs} ms, not ${wanted}`)
  }
}

const plainSets = (groups: DraftIndex['byHost']): Record<string, string[]> =>
  Object.fromEntries([...groups.names()].sort().map(name => [name, [...groups.of(name)].sort()]))

function plainIndex(index: DraftIndex): string {
  return JSON.stringify([
    ...[index.byFormation, index.byHost, index.holders, index.waiting].map(plainSets),
    ...[index.moving, index.ended].map(table => [...table.keys()].sort()),
    [...index.loads].sort(([a], [b]) => (a < b ? -1 : 1)),
  ])
}

/** The index that is kept says what one made from the jobs says. */
export function indexProblem(state: State): string | undefined {
  const anew = forkIndex(emptyIndex)
  for (const job of state.jobs.values()) reindex(anew, undefined, job, new Set())
  const [kept, made] = [plainIndex(forkIndex(state.index)), plainIndex(anew)]
  return kept === made ? undefined : `the index went wrong: ${kept} instead of ${made}`
}

/** What is pending is what is wanted, never a heap of what was. */
function backlogProblem(state: State): string | undefined {
  const counts = new Map<string, number>()
  for (const job of state.jobs.values()) {
    if (!isWaiting(job)) continue
    const key = `${job.formationKey} ${job.type}`
    counts.set(key, (counts.get(key) ?? 0) + 1)
  }
  if (!state.leader) return undefined
  for (const [key, count] of counts) {
    const [formationKey = '', type = ''] = key.split(' ')
    const formation = state.formations.get(formationKey)
    const hosts = formation?.processes[type]?.omni ? state.hosts.size : 1
    const wanted = (formation?.counts[type] ?? 0) * Math.max(1, hosts)
    if (count > wanted) return `${count} jobs of ${key} wait, ${wanted} are wanted`
  }
  return undefined
}

function isWaiting(job: Job): boolean {
  // One that may run on a host that is drained waits beside the one that replaces it.
  if (job.formationKey === undefined || job.hostId !== undefined) return false
  return job.phase === 'pending' || job.phase === 'blocked'
}
