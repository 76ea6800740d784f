// What goes on while a cluster breaks: on every host a client that fights over discoverd's metadata by compare-and-set,
// one that signs the guestbook and one that looks at its page, and one that creates apps through all routers in turn.
// Each asks one host only and never asks twice, so that a fault of that host is a fault of that client.

import { sleep } from '../../pkg/clock/clock.ts'
import type { Random } from '../../pkg/random/random.core.ts'
import type { TestHost } from '../cluster/types.ts'
import { domain } from '../fixtures/flynn-cluster.ts'
import { type Ledger, newLedger } from './ledger.ts'
import { nothing, type Outcome } from './register.core.ts'
import type { Answer, Wire } from './wire.ts'

export const registerNames = ['chaos-a', 'chaos-b', 'chaos-c'] as const
const registerPauseMs = 150
const rowPauseMs = 500
const pagePauseMs = 500
const appPauseMs = 2_000
const registerTimeoutMs = 6_000
const pageTimeoutMs = 8_000
const appTimeoutMs = 10_000
/** A client that has done so much in one round rests: the checks and the cluster's tables stay small. */
const registerOpsMax = 600
const rowsMax = 400
const appsMax = 60
const answerShownMax = 120
const json = { 'content-type': 'application/json' }

export type WorkloadOptions = {
  readonly hosts: readonly TestHost[]
  readonly wire: Wire
  readonly random: Random
  readonly controllerKey: string
  /** In the names of what is written, so that no round mistakes another's. */
  readonly round: string
}

export type Workload = {
  readonly ledger: Ledger
  /** Asks for no more; resolves when the last answer has come or is late. */
  readonly stop: () => Promise<void>
}

type Clients = WorkloadOptions & {
  readonly ledger: Ledger
  readonly stopped: AbortSignal
  readonly now: () => number
}

export function startWorkload(options: WorkloadOptions): Workload {
  const stop = new AbortController()
  const began = performance.now()
  const ledger = newLedger(
    registerNames.map(r => `${r}-${options.round}`),
    options.hosts.map(h => h.name),
  )
  const clients = { ...options, ledger, stopped: stop.signal, now: () => performance.now() - began }
  const running = [
    ...options.hosts.flatMap(h => [fight(clients, h), sign(clients, h), look(clients, h)]),
    createApps(clients),
  ]
  return {
    ledger,
    async stop() {
      stop.abort()
      await Promise.all(running)
    },
  }
}

const pause = (clients: Clients, ms: number) => sleep(ms, clients.stopped).catch(() => undefined)
const shown = (answer: Answer) =>
  answer.type === 'answered' ? `${answer.status} ${answer.text.slice(0, answerShownMax)}` : answer.why

/** Registers of a round are services of discoverd; before it begins they exist and hold nothing. */
export async function makeRegisters(host: TestHost, wire: Wire, round: string): Promise<void> {
  for (const name of registerNames) {
    const url = `http://${host.address}:1111/services/${name}-${round}`
    const answer = await wire.ask({
      url,
      method: 'PUT',
      headers: json,
      body: '{}',
      timeoutMs: registerTimeoutMs,
    })
    if (answer.type !== 'answered' || answer.status !== 200)
      throw new Error(`cannot make register ${name}: ${shown(answer)}`)
  }
}

export async function removeRegisters(host: TestHost, wire: Wire, round: string): Promise<void> {
  for (const name of registerNames) {
    const url = `http://${host.address}:1111/services/${name}-${round}`
    await wire.ask({ url, method: 'DELETE', timeoutMs: registerTimeoutMs })
  }
}

export type Held = { readonly value: string; readonly index: number }

/** What a daemon shows of a register; undefined when it does not answer. */
export async function readRegister(wire: Wire, host: TestHost, name: string): Promise<Held | undefined> {
  const url = `http://${host.address}:1111/services/${name}/meta`
  const answer = await wire.ask({ url, timeoutMs: registerTimeoutMs })
  if (answer.type !== 'answered') return undefined
  if (answer.status === 404) return { value: nothing, index: 0 }
  if (answer.status !== 200) return undefined
  const { data, index } = JSON.parse(answer.text) as { data: string; index: number }
  return { value: data, index }
}

/** Reads, and replaces what was read. */
async function fight(clients: Clients, host: TestHost): Promise<void> {
  const { ledger, wire, random, now } = clients
  const names = [...ledger.registers.keys()]
  for (let n = 0; n < registerOpsMax && !clients.stopped.aborted; n++) {
    const name = names[random.below(names.length)] ?? ''
    const held = await readRegister(wire, host, name)
    if (held) {
      ledger.glimpses
        .get(name)
        ?.get(host.name)
        ?.push({ at: now(), ...held })
      await setRegister(clients, host, name, held, `${host.name}-${n}`)
    }
    await pause(clients, registerPauseMs)
  }
}

async function setRegister(
  { ledger, wire, now }: Clients,
  host: TestHost,
  name: string,
  held: Held,
  to: string,
): Promise<void> {
  const calledAt = now()
  const answer = await wire.ask({
    url: `http://${host.address}:1111/services/${name}/meta`,
    method: 'PUT',
    headers: json,
    body: JSON.stringify({ data: to, index: held.index }),
    timeoutMs: registerTimeoutMs,
  })
  if (answer.type === 'unsent') return
  const outcome = outcomeOf(answer)
  const op = { client: host.name, calledAt, answeredAt: now(), outcome, kind: 'set' } as const
  ledger.registers.get(name)?.push({ ...op, from: held.value, to })
}

function outcomeOf(answer: Answer): Outcome {
  if (answer.type !== 'answered') return 'unknown'
  if (answer.status === 200) return 'ok'
  return /"(object_exists|precondition_failed)"/.test(answer.text) ? 'refused' : 'unknown'
}

async function sign(clients: Clients, host: TestHost): Promise<void> {
  const { ledger, wire, now, round } = clients
  for (let n = 0; n < rowsMax && !clients.stopped.aborted; n++) {
    const name = `${round}-${host.name}-${n}`
    const answer = await wire.ask({
      url: `http://${host.address}/`,
      method: 'POST',
      headers: { host: `guestbook.${domain}`, 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({ name, message: 'was here' }).toString(),
      timeoutMs: pageTimeoutMs,
    })
    const acknowledged = answer.type === 'answered' && answer.status === 303
    ledger.rows.push({ name, at: now(), acknowledged, via: host.name, answer: shown(answer) })
    await pause(clients, rowPauseMs)
  }
}

async function look(clients: Clients, host: TestHost): Promise<void> {
  const { ledger, wire, now } = clients
  while (!clients.stopped.aborted) {
    const headers = { host: `guestbook.${domain}` }
    const answer = await wire.ask({ url: `http://${host.address}/`, headers, timeoutMs: pageTimeoutMs })
    const status = answer.type === 'answered' ? answer.status : 0
    ledger.visits.push({ at: now(), host: host.name, status })
    await pause(clients, pagePauseMs)
  }
}

async function createApps(clients: Clients): Promise<void> {
  const { ledger, wire, hosts, now, round } = clients
  for (let n = 0; n < appsMax && !clients.stopped.aborted; n++) {
    const host = hosts[n % hosts.length]
    const name = `chaos-${round}-${n}`
    const answer = await wire.ask({
      url: `http://${host?.address}/apps`,
      method: 'POST',
      headers: controllerHeaders(clients.controllerKey),
      body: JSON.stringify({ name }),
      timeoutMs: appTimeoutMs,
    })
    const acknowledged = answer.type === 'answered' && answer.status === 200
    ledger.apps.push({ name, at: now(), acknowledged, via: host?.name ?? '', answer: shown(answer) })
    await pause(clients, appPauseMs)
  }
}

/** Through any router: the controller is an app like others. */
export const controllerHeaders = (key: string) => ({
  host: `controller.${domain}`,
  authorization: `Basic ${Buffer.from(`:${key}`).toString('base64')}`,
  ...json,
})
