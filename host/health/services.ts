// The services of running jobs: probes them from the host and keeps them registered in discoverd while they are well
// (contract discoverd.md 14, docs/wiring.md "Health"). What is up or was taken out is remembered on disk, so a daemon
// that restarts goes on without a gap.
import type { DiscoverdClient } from '../../discoverd/client.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { HostDatabase } from '../database.ts'
import type { ActiveJob, Port, Service } from '../types.ts'
import { type Announcement, announce } from './announce.ts'
import { type CheckEffect, checkPlan, newCheck, resumedCheck } from './check.core.ts'
import { monitor } from './monitor.ts'
import type { Probe } from './probe.ts'

type Remembered = 'up' | 'down' | 'deregistered'

export type ServicesOptions = {
  readonly discoverd: DiscoverdClient
  readonly externalIp: string
  readonly database: HostDatabase
  readonly probe: Probe
  readonly log: Logger
  /** Ends a job that its check gave up on. */
  readonly kill: (jobId: string, reason: string) => void
  /** A line on the job's init stream. */
  readonly note: (jobId: string, line: string) => void
}

type ServicePort = { readonly port: number; readonly proto: string; readonly service: Service }

/** One service of one job while the job runs. */
type Monitor = {
  /** Out of discoverd, no more probes. */
  end(): Promise<void>
  /** No more probes or heartbeats; what is registered stays until its TTL. */
  leave(): void
}

/** Throws UNSUPPORTED_CHECK; called before a job starts. */
export function verifyChecks(ports: readonly Port[]): void {
  for (const { service } of ports) if (service?.check) checkPlan(service.check)
}

function servicePorts(job: ActiveJob): readonly ServicePort[] {
  return (job.job.config.ports ?? []).flatMap(p =>
    p.service && p.service.name !== '' && p.port
      ? [{ port: p.port, proto: p.proto ?? 'tcp', service: p.service }]
      : [],
  )
}

export class Services {
  readonly #options: ServicesOptions
  readonly #monitors = new Map<string, readonly Monitor[]>()
  readonly #remember
  readonly #recall
  readonly #forget

  constructor(options: ServicesOptions) {
    this.#options = options
    const db = options.database.durable
    this.#remember = db.prepare(
      `INSERT INTO service_states (job_id, port, state) VALUES (?, ?, ?)
       ON CONFLICT (job_id, port) DO UPDATE SET state = excluded.state`,
    )
    this.#recall = db.prepare('SELECT state FROM service_states WHERE job_id = ? AND port = ?')
    this.#forget = db.prepare('DELETE FROM service_states WHERE job_id = ?')
  }

  /** The job runs, since just now or (`resumed`) since before this daemon. */
  start(job: ActiveJob, options: { readonly resumed: boolean }): void {
    const ports = servicePorts(job)
    if (ports.length === 0 || this.#monitors.has(job.job.id)) return
    this.#monitors.set(
      job.job.id,
      ports.map(port => this.#monitor(job, port, options.resumed)),
    )
  }

  /** Takes the job's services out of discoverd; resolves when discoverd knows. The job may run on. */
  async deregister(jobId: string): Promise<void> {
    const monitors = this.#monitors.get(jobId)
    if (!monitors) return
    await Promise.all(monitors.map(m => m.end()))
  }

  /** The job has ended. */
  async ended(jobId: string): Promise<void> {
    await this.deregister(jobId)
    this.#monitors.delete(jobId)
    this.#forget.run(jobId)
  }

  /** The daemon ends: jobs and their registrations live on. */
  close(): void {
    for (const monitors of this.#monitors.values()) for (const m of monitors) m.leave()
    this.#monitors.clear()
  }

  #monitor(job: ActiveJob, port: ServicePort, resumed: boolean): Monitor {
    const { id } = job.job
    const { name, check, create } = port.service
    const host = job.internal_ip ?? this.#options.externalIp
    const row = resumed ? this.#recall.get(id, port.port) : undefined
    const before = row === undefined ? undefined : (String(row['state']) as Remembered)
    const save = (state: Remembered) => void this.#remember.run(id, port.port, state)
    const registration = switchable(() =>
      announce(this.#options.discoverd, {
        service: name,
        addr: `${host}:${port.port}`,
        proto: port.proto,
        env: job.job.config.env ?? {},
        create: create ?? false,
        log: this.#options.log,
      }),
    )
    const up = () => {
      save('up')
      registration.on()
    }
    const onEffect = (effect: CheckEffect, reason: string) => {
      const what = `service ${name} on port ${port.port}`
      if (effect === 'kill') return this.#options.kill(id, `${what}: ${reason}`)
      this.#options.note(id, effect === 'register' ? `${what} is up` : `${what} is down: ${reason}`)
      if (effect === 'register') return up()
      save('down')
      void registration.off()
    }
    let stop = () => {}
    // Taken out on request before this daemon started: stays out.
    if (before === 'deregistered') return { end: async () => undefined, leave: () => undefined }
    if (!check || before === 'up') up()
    if (check) {
      const state = before === undefined ? newCheck : resumedCheck(before)
      stop = monitor({
        plan: checkPlan(check),
        state,
        probe: this.#options.probe,
        host,
        port: port.port,
        onEffect,
      })
    }
    return {
      end() {
        stop()
        save('deregistered')
        return registration.off()
      },
      leave() {
        stop()
        registration.leave()
      },
    }
  }
}

/** An announcement that goes on and off; the next one waits for the DELETE of the one before. */
function switchable(begin: () => Announcement) {
  let current: Announcement | undefined
  let wanted = false
  let over = false
  let ended: Promise<void> = Promise.resolve()
  return {
    on() {
      wanted = true
      void ended.then(() => {
        if (wanted && !over) current ??= begin()
      })
    },
    off(): Promise<void> {
      wanted = false
      const old = current
      current = undefined
      if (old) ended = old.end()
      return ended
    },
    leave() {
      over = true
      current?.leave()
    },
  }
}
