// Which instances live. All instances whose heartbeats this daemon receives hang on one etcd lease of its own: they
// end one by one here when a heartbeat fails to come for 10 s, and all at once, everywhere, when the daemon or its host
// dies. A restarted daemon takes its former lease up again, and one that is told to end leaves a longer one, so that nothing
// flaps. Contract discoverd.md 8.
import { readFile, rename, writeFile } from 'node:fs/promises'
import { sleep } from '../pkg/clock/clock.ts'
import { describeError, isFlynnError } from '../pkg/errors/errors.ts'
import type { EtcdClient, Lease } from '../pkg/etcd/client.ts'
import type { Logger } from '../pkg/log/log.ts'
import { errors } from './errors.ts'
import { equalInstances } from './state.core.ts'
import { type Store, writeTimeoutMs } from './store.ts'
import { type DiscoverdEvent, type Instance, instanceTtlMs } from './types.ts'

/**
 * A dead host's instances are gone everywhere about 4.5 s later, and 5.5 s when etcd's leader died with it: the new leader
 * comes after 0.8 s and gives every lease its full time anew. Shorter, and a busy machine would lose its lease.
 */
export const leaseTtlMs = 4_000
/**
 * How long instances stay when discoverd is told to end: whoever starts next here, in a deployment or an update, takes them
 * over within it also on a busy machine. A host that shuts down in order is missed this much later.
 */
export const bequestTtlMs = 10_000
/** Over all that is done for it while the daemon ends. */
export const bequeathTimeoutMs = 4_000
export const expiryScanMs = 1_000
/** Instances found at start have this long for a heartbeat; their clients try every 0.4 s while we are away. */
export const inheritedGraceMs = 6_000
/** A scan this late means that we were frozen, and heartbeats with us: nobody is expired for it. */
export const stallMs = 2_000
/** Registrations written at once when a lease was lost. */
export const restoreBatch = 50
export const leasePauseMs = 100

type Beat = { readonly service: string; readonly instance: Instance; at: number }
/** `bequest`: a lease that only bridges the time until the next start. */
type LeaseFile = { readonly lease: string; readonly boot: string; readonly bequest?: boolean }
type Former = { readonly lease: Lease; readonly bequest: boolean }

const beatKey = (service: string, id: string) => `${service}/${id}`

async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
}

export class Liveness {
  readonly #etcd: EtcdClient
  readonly #store: Store
  readonly #file: string
  readonly #log: Logger
  readonly #beats = new Map<string, Beat>()
  /** Deletions that came through this daemon: the `down` they cause needs no further thought. */
  readonly #deleting = new Set<string>()
  #lease: Lease | undefined
  #leaseWaiters: (() => void)[] = []
  /** Instances without a heartbeat so far are given until then. */
  #graceUntil = Number.POSITIVE_INFINITY

  constructor(options: {
    readonly etcd: EtcdClient
    readonly store: Store
    /** Where the lease's id survives a restart. */
    readonly leaseFile: string
    readonly log: Logger
  }) {
    this.#etcd = options.etcd
    this.#store = options.store
    this.#file = options.leaseFile
    this.#log = options.log
  }

  /** Keeps lease and instances until the signal aborts; leaves them to whoever starts next here then. */
  async run(signal: AbortSignal): Promise<void> {
    const unsubscribe = this.#store.subscribe(undefined, event => this.#observe(event))
    try {
      await Promise.all([this.#holdLease(signal), this.#scan(signal)])
    } finally {
      unsubscribe()
    }
  }

  async #former(): Promise<Former | undefined> {
    let file: LeaseFile
    try {
      file = JSON.parse(await readFile(this.#file, 'utf8')) as LeaseFile
    } catch (e) {
      if ((e as NodeJS.ErrnoException).code !== 'ENOENT') this.#log.warn({ err: e }, 'no former lease')
      return undefined
    }
    if (file.boot === (await bootId())) {
      const bequest = file.bequest ?? false
      const lease = await this.#etcd.adoptLease(file.lease, bequest ? bequestTtlMs : leaseTtlMs)
      return lease && { lease, bequest }
    }
    // The machine was down since: nothing that we announced then runs any more.
    await this.#etcd.revokeLease(file.lease)
    return undefined
  }

  async #remember(lease: Lease, bequest = false): Promise<void> {
    const file: LeaseFile = { lease: lease.id, boot: await bootId(), ...(bequest ? { bequest } : {}) }
    await writeFile(`${this.#file}.new`, JSON.stringify(file))
    await rename(`${this.#file}.new`, this.#file)
  }

  async #holdLease(signal: AbortSignal): Promise<void> {
    let first = true
    const aborted = new Promise<void>(resolve =>
      signal.addEventListener('abort', () => resolve(), { once: true }),
    )
    while (!signal.aborted) {
      let lease: Lease | undefined
      try {
        const former = first ? await this.#former() : undefined
        lease = former && !former.bequest ? former.lease : await this.#etcd.grantLease(leaseTtlMs, { signal })
        await this.#remember(lease)
        this.#log.info({ lease: lease.id, former: former?.lease.id }, 'holding the lease of this daemon')
        if (first) this.#graceUntil = performance.now() + inheritedGraceMs
        first = false
        this.#take(lease)
        if (former?.bequest) await this.#inherit(former.lease, lease, signal)
        if (!former) await this.#restore(lease, signal)
        await Promise.race([lease.lost, aborted])
        if (signal.aborted) await this.#bequeath(lease)
      } catch (e) {
        if (signal.aborted) return
        this.#log.warn({ err: e }, 'no lease yet, trying again')
        await sleep(leasePauseMs, signal).catch(() => undefined)
      } finally {
        await lease?.release()
        this.#lease = undefined
      }
    }
  }

  /** What hung on the lease of an ended daemon hangs on ours from now on. */
  async #inherit(bequest: Lease, lease: Lease, signal: AbortSignal): Promise<void> {
    try {
      await Promise.race([this.#store.loading, sleep(bequestTtlMs, signal)])
      await this.#store.moveInstances(bequest.id, lease.id, { signal })
    } catch (e) {
      if (!signal.aborted) this.#log.warn({ err: e }, 'instances come over with their heartbeats only')
    } finally {
      await bequest.release()
    }
  }

  /** The daemon ends in order: its instances get the time until the next one is here. */
  async #bequeath(lease: Lease): Promise<void> {
    const options = { signal: AbortSignal.timeout(bequeathTimeoutMs), timeoutMs: bequeathTimeoutMs }
    try {
      const bequest = await this.#etcd.grantLease(bequestTtlMs, options)
      await bequest.release()
      await this.#store.moveInstances(lease.id, bequest.id, options)
      await this.#remember(bequest, true)
    } catch (e) {
      this.#log.info({ reason: describeError(e) }, 'the instances have only the time of the lease')
    }
  }

  #take(lease: Lease): void {
    this.#lease = lease
    const waiters = this.#leaseWaiters
    this.#leaseWaiters = []
    for (const resolve of waiters) resolve()
  }

  /** The lease that instances hang on; waits for one until the write deadline. */
  async #current(): Promise<Lease> {
    if (this.#lease) return this.#lease
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(errors.NO_LEADER()), writeTimeoutMs)
      this.#leaseWaiters.push(() => {
        clearTimeout(timer)
        resolve()
      })
    })
    return this.#current()
  }

  /** After a lost lease: registers again whoever has been heard of lately. */
  async #restore(lease: Lease, signal: AbortSignal): Promise<void> {
    const now = performance.now()
    for (const [key, beat] of this.#beats) if (now - beat.at > instanceTtlMs) this.#beats.delete(key)
    const fresh = [...this.#beats.values()]
    for (let i = 0; i < fresh.length; i += restoreBatch)
      await Promise.all(
        fresh
          .slice(i, i + restoreBatch)
          .map(b => this.#store.putInstance(b.service, b.instance, lease.id, { onlyIfAbsent: true, signal })),
      )
  }

  /**
   * One registration or heartbeat. Writes only what changed: a new instance, new metadata, or an instance that another
   * daemon looked after until now.
   */
  async heartbeat(service: string, instance: Instance): Promise<void> {
    const key = beatKey(service, instance.id)
    // Before the write: should its answer get lost, the instance must not look abandoned.
    this.#beats.set(key, { service, instance, at: performance.now() })
    const known = this.#store.service(service)?.instances.get(instance.id)
    if (known && this.#lease && known.lease === this.#lease.id && equalInstances(known, instance)) return
    const lease = await this.#current()
    try {
      await this.#store.putInstance(service, instance, lease.id)
    } catch (e) {
      if (isFlynnError(e, 'object_not_found')) this.#beats.delete(key)
      if (!isFlynnError(e, 'etcd_lease_not_found')) throw e
      lease.check().catch(cause => this.#log.debug({ err: cause }, 'lease state unknown for now'))
      throw errors.NO_LEADER({}, { cause: e })
    }
  }

  /** Ends an instance at its owner's wish. */
  async remove(service: string, id: string): Promise<void> {
    const key = beatKey(service, id)
    this.#beats.delete(key)
    this.#deleting.add(key)
    try {
      await this.#store.deleteInstance(service, id)
    } finally {
      this.#deleting.delete(key)
    }
  }

  /**
   * An instance we get heartbeats of went down and we did not do it: either its owner said so to another daemon, or our
   * lease ran out. Only the first is a reason to forget it.
   */
  #observe(event: DiscoverdEvent): void {
    const id = event.instance?.id
    if (event.kind !== 'down' || id === undefined) return
    const key = beatKey(event.service, id)
    const beat = this.#beats.get(key)
    if (!beat || this.#deleting.has(key)) return
    const downAt = performance.now()
    const forgetIfAlive = async () => {
      if (!(await this.#lease?.check())) return
      const now = this.#beats.get(key)
      if (!now || now.at > downAt) return
      this.#beats.delete(key)
      this.#log.debug({ service: event.service, id }, 'deleted at another daemon, not registered again')
    }
    forgetIfAlive().catch(e => this.#log.debug({ err: e }, 'lease state unknown for now'))
  }

  async #scan(signal: AbortSignal): Promise<void> {
    let last = performance.now()
    while (!signal.aborted) {
      await sleep(expiryScanMs, signal).catch(() => undefined)
      const now = performance.now()
      if (now - last > expiryScanMs + stallMs)
        this.#graceUntil = Math.max(this.#graceUntil, now + inheritedGraceMs)
      last = now
      if (signal.aborted || !this.#lease || !this.#store.loaded || now < this.#graceUntil) continue
      await this.#expire(this.#lease.id, now)
    }
  }

  async #expire(lease: string, now: number): Promise<void> {
    for (const service of this.#store.state.services.values())
      for (const instance of service.instances.values()) {
        if (instance.lease !== lease) continue
        const key = beatKey(service.name, instance.id)
        const beat = this.#beats.get(key)
        if (beat && now - beat.at <= instanceTtlMs) continue
        this.#beats.delete(key)
        try {
          const expired = await this.#store.expireInstance(service.name, instance.id, instance.revision)
          if (expired) this.#log.info({ service: service.name, addr: instance.addr }, 'instance expired')
        } catch (e) {
          this.#log.warn({ err: e, service: service.name }, 'expiry failed, tried again at the next scan')
          return
        }
      }
  }
}
