// Steps that wait for the cluster: one URL, the whole status, and the switch of the cluster monitor.
import { connect } from 'node:net'
import { Type } from 'typebox'
import { poll } from '../../pkg/clock/clock.ts'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import { exchange } from '../../pkg/http/request.ts'
import { type BootstrapContext, render } from '../context.ts'
import type { Action } from '../engine.ts'
import { errors } from '../errors.ts'

export const waitTimeoutSeconds = 300
export const statusCheckTimeoutSeconds = 60
const probeTimeoutMs = 5000
const probeIntervalMs = 200

async function probeTcp(address: string): Promise<void> {
  const url = new URL(address)
  await new Promise<void>((resolve, reject) => {
    const socket = connect({ host: url.hostname, port: Number(url.port), timeout: probeTimeoutMs })
    socket.once('connect', () => {
      socket.destroy()
      resolve()
    })
    socket.once('timeout', () => socket.destroy(new Error('no connection in time')))
    socket.once('error', reject)
  })
}

async function probeHttp(url: string, host: string | undefined, status: number): Promise<void> {
  const res = await exchange(new URL(url), {
    ...(host ? { headers: { host } } : {}),
    signal: AbortSignal.timeout(probeTimeoutMs),
  })
  await res.body.dump()
  if (res.statusCode !== status) throw new Error(`answers ${res.statusCode} instead of ${status}`)
}

async function waitFor(
  what: string,
  seconds: number,
  context: BootstrapContext,
  probe: () => Promise<void>,
): Promise<void> {
  const { signal } = context.options
  let reason = 'no answer'
  const attempt = async () => {
    try {
      await probe()
      return true
    } catch (e) {
      reason = e instanceof Error ? e.message : String(e)
      return false
    }
  }
  await poll(attempt, { timeoutMs: seconds * 1000, intervalMs: probeIntervalMs, signal, what }).catch(e => {
    signal.throwIfAborted()
    throw errors.WAIT_TIMEOUT({ what, seconds, reason }, { cause: e })
  })
}

export const wait: Action = {
  schema: Type.Object({
    url: Type.String(),
    host: Type.Optional(Type.String()),
    status: Type.Optional(Type.Integer()),
    timeout: Type.Optional(Type.Integer({ minimum: 1 })),
  }),
  always: true,
  async run(step, context) {
    const url = render(step['url'] as string, context)
    const host = typeof step['host'] === 'string' ? render(step['host'], context) : undefined
    const status = (step['status'] as number | undefined) ?? 200
    const seconds = (step['timeout'] as number | undefined) ?? waitTimeoutSeconds
    await waitFor(url, seconds, context, async () => {
      const address = await context.discoverd.resolve(url, { timeoutMs: probeTimeoutMs })
      if (address.startsWith('tcp:')) await probeTcp(address)
      else await probeHttp(address, host, status)
    })
    return {}
  },
}

type StatusBody = {
  readonly data?: { readonly detail?: Readonly<Record<string, { readonly status: string }>> }
}

/** Unlike the original, which passes an unhealthy cluster at its deadline (contract host.md 10, item 49). */
export const statusCheck: Action = {
  schema: Type.Object({ url: Type.String(), timeout: Type.Optional(Type.Integer({ minimum: 1 })) }),
  always: true,
  async run(step, context) {
    const seconds = (step['timeout'] as number | undefined) ?? statusCheckTimeoutSeconds
    let unhealthy = 'no answer from the status service'
    try {
      await waitFor('the cluster', seconds, context, async () => {
        const url = await context.discoverd.resolve(step['url'] as string, { timeoutMs: probeTimeoutMs })
        const res = await exchange(new URL(url), {
          headers: { accept: 'application/json' },
          signal: AbortSignal.timeout(probeTimeoutMs * 2),
        })
        const body = (await res.body.json()) as StatusBody
        unhealthy = Object.entries(body.data?.detail ?? {})
          .filter(([, component]) => component.status !== 'healthy')
          .map(([name]) => name)
          .join(', ')
        if (res.statusCode !== 200) throw new Error(unhealthy)
      })
    } catch (e) {
      if (!isFlynnError(e, 'wait_timeout')) throw e
      throw errors.UNHEALTHY({ seconds, services: unhealthy }, { cause: e })
    }
    return { text: 'all services healthy' }
  },
}

export const clusterMonitor: Action = {
  schema: Type.Object({ enabled: Type.Boolean() }),
  async run(step, context) {
    await context.discoverd.maybeAddService('cluster-monitor')
    const data = { enabled: step['enabled'] as boolean, hosts: context.hosts.length }
    const before = await context.discoverd.getMeta('cluster-monitor')
    await context.discoverd.setMeta('cluster-monitor', { data, index: before?.index ?? 0 })
    return { data }
  },
}
