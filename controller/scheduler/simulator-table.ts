// The controller and its database in a simulated world: what schedulers record there, and what they read. It is away at
// times; records are tried again for a while then, and given up after that. Used by simulator.ts only.
import type { World } from './simulator.ts'
import type { Effect, Formation, RecordedJob, Volume, WireState } from './state.core.ts'

const recordRetryMs = 60_000

type Row = {
  readonly state: WireState
  readonly hostId?: string
  readonly restarts: number
  readonly appId: string
  readonly releaseId: string
  readonly type: string
  readonly updatedMs: number
}

export type RecordEffect = Extract<Effect, { kind: 'recordJob' | 'recordVolume' | 'finishScale' }>

export class SimTable {
  readonly formations = new Map<string, Formation>()
  readonly rows = new Map<string, Row>()
  readonly volumes = new Map<string, { volume: Volume; jobUuid?: string }>()
  readonly finishedScales = new Map<string, string>()
  readonly #world: Pick<World, 'nowMs' | 'schedulers'>
  #away = false
  #records: { readonly atMs: number; readonly effect: RecordEffect }[] = []

  constructor(world: Pick<World, 'nowMs' | 'schedulers'>) {
    this.#world = world
  }

  get away(): boolean {
    return this.#away
  }

  set away(away: boolean) {
    this.#away = away
    if (away) return
    for (const { atMs, effect } of this.#records.splice(0))
      if (this.#world.nowMs - atMs < recordRetryMs) this.#write(effect)
  }

  record(effect: RecordEffect): void {
    if (this.#away) this.#records.push({ atMs: this.#world.nowMs, effect })
    else this.#write(effect)
  }

  #write(effect: RecordEffect): void {
    if (effect.kind === 'recordJob') {
      const { job, state } = effect
      const { appId, releaseId, type, restarts } = job
      const host = job.hostId === undefined ? {} : { hostId: job.hostId }
      this.rows.set(job.uuid, {
        ...{ state, restarts, appId, releaseId, type },
        ...host,
        updatedMs: this.#world.nowMs,
      })
    } else if (effect.kind === 'recordVolume') {
      const { volume, jobUuid } = effect
      this.volumes.set(volume.id, { volume, ...(jobUuid === undefined ? {} : { jobUuid }) })
      for (const scheduler of this.#world.schedulers)
        scheduler.show(() => {
          const row = this.volumes.get(volume.id)
          return row && { kind: 'volume', volume: row.volume }
        })
    } else this.#finishScale(effect.formationKey, effect.request.id, effect.state)
  }

  #finishScale(key: string, id: string, state: string): void {
    this.finishedScales.set(id, state)
    const formation = this.formations.get(key)
    if (formation?.scale?.id !== id) return
    const { scale, ...rest } = formation
    this.formations.set(key, rest)
  }

  activeRows(): RecordedJob[] {
    return [...this.rows]
      .filter(([, row]) => row.state !== 'down')
      .map(([uuid, row]) => ({
        uuid,
        ...row,
        meta: {},
        args: [],
        volumeIds: [...this.volumes.values()].filter(v => v.jobUuid === uuid).map(v => v.volume.id),
      }))
  }
}
