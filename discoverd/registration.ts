// Keeps one instance registered: first PUT with retries, heartbeats with jitter, re-registration after an outage, one
// DELETE at the end. Contract discoverd.md 13. Used through DiscoverdClient.register.
import { sleep } from '../pkg/clock/clock.ts'
import { isFlynnError } from '../pkg/errors/errors.ts'
import { instanceId } from '../pkg/ids/ids.ts'
import type { Logger } from '../pkg/log/log.ts'
import type { DiscoverdClient } from './client.ts'
import type { Instance, LeaderType } from './types.ts'

export const firstRegistrationTimeoutMs = 60_000
export const firstRegistrationPauseMs = 200
export const deregisterTimeoutMs = 2_000

const metaFromEnv = [
  'FLYNN_APP_ID',
  'FLYNN_APP_NAME',
  'FLYNN_RELEASE_ID',
  'FLYNN_PROCESS_TYPE',
  'FLYNN_JOB_ID',
] as const

export type Register = {
  readonly service: string
  /** `host:port`; `:port` gets EXTERNAL_IP. */
  readonly addr: string
  /** Default `tcp`. */
  readonly proto?: string
  readonly meta?: Readonly<Record<string, string>>
  /** Where the five FLYNN_* members of meta come from; `{}` for none (registration for somebody else). */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Create the service first, also again should it have been removed meanwhile. */
  readonly create?: boolean | LeaderType
  /** Gives up the first registration, or ends the heartbeats without deregistering. */
  readonly signal?: AbortSignal | undefined
  readonly log?: Logger | undefined
}

export type Registration = {
  readonly instance: Instance
  /** Replaces `meta` (not what came from the environment) at once and for all later heartbeats. */
  update(meta: Readonly<Record<string, string>>): Promise<void>
  /** Ends the heartbeats and deregisters; a failing DELETE is logged, the TTL does it then. Safe to call twice. */
  close(): Promise<void>
}

function instanceOf(options: Register, meta = options.meta): Instance {
  const env = options.env ?? process.env
  const external = process.env['EXTERNAL_IP'] ?? ''
  const addr = options.addr.startsWith(':') ? `${external}${options.addr}` : options.addr
  const proto = options.proto ?? 'tcp'
  const fromEnv = metaFromEnv.flatMap(name => {
    const value = env[name]
    return value === undefined || value === '' ? [] : [[name, value] as const]
  })
  return { id: instanceId(proto, addr), addr, proto, meta: { ...Object.fromEntries(fromEnv), ...meta } }
}

async function put(client: DiscoverdClient, options: Register, instance: Instance): Promise<void> {
  try {
    await client.putInstance(options.service, instance, { signal: options.signal })
  } catch (e) {
    if (!options.create || !isFlynnError(e, 'object_not_found')) throw e
    await createService(client, options)
    await client.putInstance(options.service, instance, { signal: options.signal })
  }
}

async function createService(client: DiscoverdClient, options: Register): Promise<void> {
  const leaderType = typeof options.create === 'string' ? options.create : 'oldest'
  await client.maybeAddService(options.service, { leader_type: leaderType }, { signal: options.signal })
}

async function putFirst(client: DiscoverdClient, options: Register, instance: Instance): Promise<void> {
  const end = Date.now() + firstRegistrationTimeoutMs
  for (;;) {
    try {
      if (options.create) await createService(client, options)
      await put(client, options, instance)
      return
    } catch (e) {
      options.signal?.throwIfAborted()
      if (isFlynnError(e, 'validation_error') || Date.now() >= end) throw e
      await sleep(firstRegistrationPauseMs, options.signal)
    }
  }
}

export async function register(client: DiscoverdClient, options: Register): Promise<Registration> {
  const ended = new AbortController()
  const signal = options.signal ? AbortSignal.any([ended.signal, options.signal]) : ended.signal
  const own: Register = { ...options, signal }
  let instance = instanceOf(options)
  await putFirst(client, own, instance)

  const endBeating = client.heartbeats.add({
    service: options.service,
    instance: () => instance,
    put: () => put(client, own, instance),
    log: options.log,
  })
  const stopped = new Promise<void>(resolve => {
    const stop = () => resolve(endBeating())
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop, { once: true })
  })
  let closing: Promise<void> | undefined
  const close = async () => {
    ended.abort()
    await stopped
    try {
      await client.deleteInstance(options.service, instance.id, { timeoutMs: deregisterTimeoutMs })
    } catch (e) {
      options.log?.warn({ service: options.service, err: e }, 'deregistration failed, the TTL will do it')
    }
  }
  return {
    get instance() {
      return instance
    },
    async update(meta) {
      instance = instanceOf(options, meta)
      await put(client, own, instance)
    },
    close() {
      closing ??= close()
      return closing
    },
  }
}
