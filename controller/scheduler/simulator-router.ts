// A router of a simulated world: it serves what discoverd lists for it, a little later, and drains what leaves.
// Used by simulator.ts only.
import type { Happening } from './state.core.ts'

type Tell = (happening: Happening) => void

export class SimRouter {
  readonly id: string
  readonly #backends = new Map<string, 'up' | 'down'>()
  readonly #tell: Tell
  readonly #later: (run: () => void) => void

  constructor(id: string, tell: Tell, later: (run: () => void) => void) {
    this.id = id
    this.#tell = tell
    this.#later = later
  }

  #say(uuid: string, status: 'up' | 'down' | 'drained'): void {
    this.#tell({ kind: 'backend', routerId: this.id, uuid, service: 'svc', addr: uuid, status })
  }

  /** What one that connects is told. */
  all(): readonly Happening[] {
    const backends = [...this.#backends].map(
      ([uuid, status]): Happening => ({
        kind: 'backend',
        routerId: this.id,
        uuid,
        service: 'svc',
        addr: uuid,
        status,
      }),
    )
    return [{ kind: 'routed', services: ['svc'] }, { kind: 'router', routerId: this.id }, ...backends]
  }

  /** discoverd's list of the service changed. */
  serve(uuids: readonly string[]): void {
    const listed = new Set(uuids)
    for (const uuid of listed)
      if (!this.#backends.has(uuid))
        this.#later(() => {
          this.#backends.set(uuid, 'up')
          this.#say(uuid, 'up')
        })
    for (const [uuid, status] of this.#backends) if (status === 'up' && !listed.has(uuid)) this.drain(uuid)
  }

  drain(uuid: string): void {
    if (this.#backends.get(uuid) !== 'up') return
    this.#backends.set(uuid, 'down')
    this.#say(uuid, 'down')
    this.#later(() => {
      this.#backends.delete(uuid)
      this.#say(uuid, 'drained')
    })
  }
}
