// What the clients of a round did and what they were told: the record against which the checks hold the cluster. Lives in
// the memory of this process, which no fault reaches.
import type { Glimpse, RegisterOperation } from './register.core.ts'

/** A write of something that is written once: an app of the controller, a row of the guestbook. */
export type Write = {
  readonly name: string
  readonly at: number
  readonly acknowledged: boolean
  /** Through which host, and what came back. */
  readonly via: string
  readonly answer: string
}

export type Visit = { readonly at: number; readonly host: string; readonly status: number }

export type Ledger = {
  /** By register. */
  readonly registers: Map<string, RegisterOperation[]>
  /** By register and host. */
  readonly glimpses: Map<string, Map<string, Glimpse[]>>
  readonly apps: Write[]
  readonly rows: Write[]
  readonly visits: Visit[]
}

export function newLedger(registers: readonly string[], hosts: readonly string[]): Ledger {
  const perHost = () => new Map(hosts.map(h => [h, [] as Glimpse[]]))
  return {
    registers: new Map(registers.map(r => [r, []])),
    glimpses: new Map(registers.map(r => [r, perHost()])),
    apps: [],
    rows: [],
    visits: [],
  }
}

export function tellLedger(ledger: Ledger): string {
  const sets = [...ledger.registers.values()].flat()
  const count = (writes: readonly Write[]) =>
    `${writes.filter(w => w.acknowledged).length} of ${writes.length}`
  const good = ledger.visits.filter(v => v.status === 200).length
  return [
    `${sets.filter(o => o.outcome === 'ok').length} of ${sets.length} register writes`,
    `${count(ledger.apps)} apps`,
    `${count(ledger.rows)} rows`,
    `${good} of ${ledger.visits.length} pages`,
  ].join(', ')
}

/** All that the clients asked, whatever came of it. */
export function countRequests(ledger: Ledger): number {
  const glimpses = [...ledger.glimpses.values()].flatMap(hosts => [...hosts.values()].flat())
  const sets = [...ledger.registers.values()].flat()
  return glimpses.length + sets.length + ledger.apps.length + ledger.rows.length + ledger.visits.length
}
