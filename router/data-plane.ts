// Makes HAProxy hold what the table asks for: files first, then the running process, one change at a time. HAProxy is
// kept running by the container's supervisor; when it comes back it has read the files, when a command is refused it is
// reloaded from them, so files and process never stay apart.
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { isFlynnError } from '../pkg/errors/errors.ts'
import type { HaproxyRuntime } from '../pkg/haproxy/runtime.ts'
import type { Logger } from '../pkg/log/log.ts'
import { addCertificate, CertificateCheck, deleteCertificate } from './certificates.ts'
import { serverOptions } from './config.core.ts'
import { Drain, type Drained } from './drain.ts'
import { errors } from './errors.ts'
import { bindablePorts, LayoutFiles } from './files.ts'
import { files, type RouterSettings } from './frontend.core.ts'
import type { HostCertificate } from './host-certificates.core.ts'
import type { Layout } from './maps.core.ts'
import { type MapName, planChange, retiredServers, type Step } from './plan.core.ts'
import { HaproxyProcess } from './process.ts'
import { assignSlots, type Desired, type Pool, poolFor } from './table.core.ts'
import { ticketKeys } from './tickets.ts'

/** HTTP backends, those of routes that ask for more, those without keep-alive, TCP backends: more when they run out. */
export const initialPool: Pool = { b: 128, s: 32, n: 16, t: 64 }

export type { Drained } from './drain.ts'
export type DataPlaneOptions = {
  readonly settings: RouterSettings
  readonly log: Logger
  readonly onDrained: (drained: Drained) => void
}

export class DataPlane {
  readonly haproxy: HaproxyProcess
  readonly #options: DataPlaneOptions
  readonly #certificates: CertificateCheck
  readonly #drain: Drain
  readonly #files: LayoutFiles
  /** What the files say, and therefore what a restarted HAProxy holds. */
  #written: Layout | undefined
  /** The process that #written has been applied to. */
  #pid: string | undefined
  #generation = ''
  /** The newest key of session tickets that the serving process has. */
  #ticket: string | undefined
  #queue: Promise<void> = Promise.resolve()

  constructor(options: DataPlaneOptions) {
    const { settings, log, onDrained } = options
    this.#options = options
    this.haproxy = new HaproxyProcess(settings.dir, log)
    this.#files = new LayoutFiles(settings)
    this.#certificates = new CertificateCheck((certificate, reason) =>
      log.warn({ certificate, reason }, 'certificate cannot be used, its names get the default one'),
    )
    this.#drain = new Drain({
      haproxy: this.haproxy,
      log,
      onDrained,
      between: work => {
        this.#queue = this.#queue.then(work)
      },
    })
  }

  /** Backend keys by slot, of what HAProxy holds now. */
  get slots(): Readonly<Record<string, string>> {
    return this.#written?.slots ?? {}
  }

  /** Serving now holds the newest of the wishes given so far when the promise resolves. */
  apply(desired: Desired): Promise<void> {
    const work = this.#queue.then(() => this.#apply(desired))
    // Who asked for it is told; what comes next in the queue does not depend on it.
    this.#queue = work.catch(() => undefined)
    return work
  }

  /** Gives HAProxy the key of tomorrow's session tickets when a day has gone by. */
  rotateTickets(): Promise<void> {
    const { settings, log } = this.#options
    const work = this.#queue.then(async () => {
      const newest = ticketKeys(settings.cookieKey, new Date()).at(-1)
      if (!settings.defaultPem || !this.#written || newest === undefined || newest === this.#ticket) return
      await this.#files.write(this.#written)
      if (this.#ticket !== undefined) {
        const runtime = await this.haproxy.runtime()
        await this.#expect(
          runtime,
          `set ssl tls-key ${join(settings.dir, files.tickets)} ${newest}`,
          /updated/i,
        )
      }
      this.#ticket = newest
    })
    this.#queue = work.catch(err => log.warn({ err }, 'session ticket key not changed'))
    return this.#queue
  }

  async close(): Promise<void> {
    this.#drain.close()
    await this.#queue
    await this.haproxy.close()
  }

  async #layout(wished: Desired): Promise<Layout> {
    const { settings, log } = this.#options
    const desired = this.#certificates.usable(wished)
    const slots = assignSlots(this.#written?.slots ?? {}, desired.backends.values(), this.#drain.slots)
    const tcpPorts = await bindablePorts(settings, desired.tcp.keys(), this.#written?.tcpPorts ?? [], port =>
      log.warn({ port }, 'TCP port cannot be bound, another program has it'),
    )
    const pool = poolFor(this.#written?.pool ?? initialPool, slots)
    return { desired, slots, pool, tcpPorts, generation: this.#generation }
  }

  async #apply(wished: Desired): Promise<void> {
    const before = this.#written
    const layout = await this.#layout(wished)
    if (!before) return await this.#reload('first table', layout)
    if (this.#pid === undefined) return await this.#reload('the last reload failed', layout)
    await this.#files.write(layout)
    this.#written = layout
    const plan = planChange(before, layout)
    let reload = 'reload' in plan ? plan.reload : undefined
    if ('steps' in plan && plan.steps.length > 0) {
      try {
        const refused = await this.#changeInPlace(plan.steps)
        // The files still name it, and HAProxy would not start from them.
        if (refused > 0) return await this.#apply(wished)
      } catch (e) {
        this.#options.log.warn({ err: e }, 'change in place failed')
        reload = 'a change in place failed'
      }
    }
    if (reload === undefined) return
    await this.#reload(reload, layout)
    // The worker of before still has requests under way to what is not in the new files.
    for (const { slot, server, service } of retiredServers(before, layout))
      this.#drain.start(`${slot}/${server.name}`, { slot, server, service })
  }

  /** Answers how many certificates HAProxy refused. */
  async #changeInPlace(steps: readonly Step[]): Promise<number> {
    // Anew, because the worker of a killed HAProxy may still answer on the connection of before.
    await this.haproxy.close()
    const runtime = await this.haproxy.runtime()
    // A process that started after the files were written has them already, one from before may not.
    if (this.#pid !== (await this.haproxy.pid())) throw errors.RESTARTED()
    let refused = 0
    for (const step of steps) {
      if (step.kind !== 'add-certificate') await this.#carryOut(runtime, step)
      else if (!(await this.#addCertificate(runtime, step.certificate))) refused++
    }
    return refused
  }

  async #reload(reason: string, layout: Layout): Promise<void> {
    this.#pid = undefined
    this.#generation = randomUUID()
    this.#written = { ...layout, generation: this.#generation }
    await this.#files.write(this.#written)
    this.#pid = await this.haproxy.reload(reason, this.#generation, layout.desired.certificates.size)
    this.#ticket = ticketKeys(this.#options.settings.cookieKey, new Date()).at(-1)
  }

  /** False when HAProxy refused this one; whatever else is asked for goes on. */
  async #addCertificate(runtime: HaproxyRuntime, certificate: HostCertificate): Promise<boolean> {
    try {
      await addCertificate(runtime, this.#options.settings, certificate)
      return true
    } catch (e) {
      if (!isFlynnError(e, 'command_refused') && !isFlynnError(e, 'certificate_too_long')) throw e
      this.#certificates.refuse(certificate.name, e.message)
      return false
    }
  }

  async #carryOut(runtime: HaproxyRuntime, step: Exclude<Step, { kind: 'add-certificate' }>): Promise<void> {
    switch (step.kind) {
      case 'add-server':
        return await this.#addServer(runtime, step)
      case 'retire-server':
        return await this.#retire(runtime, step)
      case 'add-map':
        return await this.#map(runtime, 'add', step.map, `${step.key} ${step.value}`)
      case 'set-map':
        return await this.#map(runtime, 'set', step.map, `${step.key} ${step.value}`)
      case 'delete-map':
        return await this.#map(runtime, 'del', step.map, step.key)
      case 'delete-certificate':
        return await deleteCertificate(runtime, this.#options.settings, step.certificate.name)
      default:
        return step satisfies never
    }
  }

  #map(runtime: HaproxyRuntime, verb: 'add' | 'set' | 'del', map: MapName, rest: string) {
    return this.#expect(runtime, `${verb} map ${join(this.#options.settings.dir, files[map])} ${rest}`, /^$/)
  }

  async #expect(runtime: HaproxyRuntime, command: string, good: RegExp): Promise<void> {
    const answer = await runtime.command(command)
    if (!good.test(answer)) throw errors.COMMAND_REFUSED({ command, answer })
  }

  async #addServer(runtime: HaproxyRuntime, step: Extract<Step, { kind: 'add-server' }>): Promise<void> {
    const { slot, server, flavour } = step
    const id = `${slot}/${server.name}`
    if (this.#drain.revive(id)) return await this.#expect(runtime, `set server ${id} state ready`, /^$/)
    const options = serverOptions(flavour, server, true)
    await this.#expect(runtime, `add server ${id} ${server.addr}${options}`, /registered/i)
    await this.#expect(runtime, `enable server ${id}`, /^$/)
    if (flavour === 't' || flavour === 'b') return
    const key = this.#options.settings.cookieKey
    await this.#expect(runtime, `set dynamic-cookie-key backend ${slot} ${key}`, /^$/)
  }

  async #retire(runtime: HaproxyRuntime, step: Extract<Step, { kind: 'retire-server' }>): Promise<void> {
    const id = `${step.slot}/${step.server.name}`
    await this.#expect(runtime, `set server ${id} state maint`, /^$/)
    this.#drain.start(id, { slot: step.slot, server: step.server, service: step.service })
  }
}
