// Steps about the hosts themselves: which are online, whether the ports are free, whether each has its network and is
// registered. The first is run before the manifest's own steps (contract host.md 7.1).
import { Type } from 'typebox'
import { HostClient } from '../../host/client.ts'
import { poll, sleep } from '../../pkg/clock/clock.ts'
import { type FlynnError, isFlynnError } from '../../pkg/errors/errors.ts'
import type { BootstrapHost } from '../context.ts'
import type { Action } from '../engine.ts'
import { errors } from '../errors.ts'

const pollIntervalMs = 1000
const statusTimeoutMs = 5000

export type OnlineOptions = {
  /** http://address:1113 of each candidate, asked for anew in each round. */
  readonly urls: () => readonly string[] | Promise<readonly string[]>
  readonly authKey: string
  readonly wanted: number
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

async function ask(url: string, authKey: string, signal: AbortSignal): Promise<BootstrapHost> {
  const probe = new HostClient({ url, authKey })
  const status = await probe.status({ retryMs: 0, timeoutMs: statusTimeoutMs, signal })
  return {
    id: status.id,
    address: new URL(status.url).hostname,
    version: status.version,
    client: new HostClient({ url: status.url, authKey }),
  }
}

/** The hosts that answer, as soon as enough do. Rejects HOSTS_OFFLINE with the addresses that do not. */
export async function findOnlineHosts(options: OnlineOptions): Promise<readonly BootstrapHost[]> {
  const end = Date.now() + options.timeoutMs
  for (;;) {
    const urls = await options.urls()
    const answers = await Promise.allSettled(urls.map(url => ask(url, options.authKey, options.signal)))
    const online = answers.flatMap(a => (a.status === 'fulfilled' ? [a.value] : []))
    if (online.length >= options.wanted) return online
    if (Date.now() >= end) {
      const silent = urls.filter((_, i) => answers[i]?.status === 'rejected')
      throw errors.HOSTS_OFFLINE({
        online: online.length,
        wanted: options.wanted,
        seconds: Math.round(options.timeoutMs / 1000),
        unreachable: silent.length > 0 ? `; no answer from ${silent.join(', ')}` : '',
      })
    }
    await sleep(pollIntervalMs, options.signal)
  }
}

/**
 * Every host lets the others in, also where `flynn-host init` named no peers. Rejects with the host's reason: another
 * version, or two machines with one id.
 */
export async function introduceHosts(hosts: readonly BootstrapHost[], signal: AbortSignal): Promise<void> {
  for (const host of hosts) {
    for (const { id, address, version } of hosts)
      if (id !== host.id || address !== host.address)
        await host.client.join({ id, address, version }, { timeoutMs: statusTimeoutMs, signal })
  }
}

type PortCheck = { readonly port: number; readonly proto?: string }

export const resourceCheck: Action = {
  schema: Type.Object({
    ports: Type.Array(
      Type.Object({
        port: Type.Integer({ minimum: 1, maximum: 65535 }),
        proto: Type.Optional(Type.String()),
      }),
    ),
  }),
  async run(step, context) {
    const taken: string[] = []
    for (const host of context.hosts) {
      try {
        await host.client.checkPorts(step['ports'] as PortCheck[], { retryMs: 0 })
      } catch (e) {
        if (!isFlynnError(e, 'conflict')) throw e
        const ports = (e.detail as { readonly ports?: readonly PortCheck[] } | undefined)?.ports ?? []
        taken.push(...ports.map(p => `${host.id}:${p.port}/${p.proto || 'tcp'}`))
      }
    }
    if (taken.length > 0) throw errors.PORTS_IN_USE({ ports: taken.join(', ') })
    return {}
  },
}

/** Every host has its subnet, knows discoverd, and is registered under the address that it answers on. */
export const waitHosts: Action = {
  schema: Type.Object({}),
  always: true,
  async run(_step, context) {
    const missing = async (host: BootstrapHost): Promise<string | undefined> => {
      const status = await host.client.status({ retryMs: 0, timeoutMs: statusTimeoutMs })
      if (!status.network?.subnet) return `${host.id} has no network`
      if (!status.discoverd?.url) return `${host.id} has not heard from its discoverd`
      if (!status.discoverd.dns) return `${host.id} has no DNS`
      const registered = await context.discoverd.instances('flynn-host', { timeoutMs: statusTimeoutMs })
      return registered.some(i => i.addr.startsWith(`${host.address}:`))
        ? undefined
        : `${host.id} is not registered`
    }
    let reason = ''
    const ready = async () => {
      for (const host of context.hosts) {
        reason = (await missing(host).catch((e: FlynnError | Error) => e.message)) ?? ''
        if (reason !== '') return false
      }
      return true
    }
    const { hostTimeoutMs, signal } = context.options
    await poll(ready, { timeoutMs: hostTimeoutMs, intervalMs: 100, signal, what: 'the hosts' }).catch(e => {
      signal.throwIfAborted()
      throw errors.WAIT_TIMEOUT(
        { what: 'the network of the hosts', seconds: hostTimeoutMs / 1000, reason },
        { cause: e },
      )
    })
    return {}
  },
}
