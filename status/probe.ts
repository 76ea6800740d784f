// Asks every component for its status, all at once, each within its deadline. One round serves all who ask meanwhile.
import type { DiscoverdClient, Instance } from '../discoverd/client.ts'
import { describeError } from '../pkg/errors/errors.ts'
import { exchange } from '../pkg/http/request.ts'
import { version } from '../pkg/version/version.ts'
import { type Check, checks, type ProbeResult, summarize, toComponentStatus } from './checks.core.ts'
import type { ClusterStatus, ComponentStatus } from './types.ts'

/** For finding the instance and asking it. */
export const probeTimeoutMs = 2_000
/** Of an answer, what is read. */
export const answerBytesMax = 64 * 1024

async function find(
  discoverd: DiscoverdClient,
  check: Check,
  signal: AbortSignal,
): Promise<Instance | undefined> {
  const options = { signal, timeoutMs: probeTimeoutMs }
  if (check.of === 'leader') return discoverd.leader(check.service, options)
  const instances = await discoverd.instances(check.service, options)
  return instances[Math.floor(Math.random() * instances.length)]
}

function toUrl(check: Check, instance: Instance): URL {
  const host = instance.addr.slice(0, instance.addr.lastIndexOf(':'))
  const address = check.port === undefined ? instance.addr : `${host}:${check.port}`
  return new URL(`http://${address}${check.path ?? '/.well-known/status'}`)
}

async function readBody(body: AsyncIterable<Uint8Array>): Promise<unknown> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.length
    if (bytes > answerBytesMax) throw new Error(`answer longer than ${answerBytesMax} bytes`)
    chunks.push(chunk)
  }
  const text = Buffer.concat(chunks).toString()
  return text === '' ? undefined : JSON.parse(text)
}

async function ask(check: Check, instance: Instance, signal: AbortSignal): Promise<ProbeResult> {
  const key = check.withKey ? instance.meta?.['AUTH_KEY'] : undefined
  const res = await exchange(toUrl(check, instance), {
    signal,
    headers: {
      accept: 'application/json',
      ...(key ? { authorization: `Basic ${Buffer.from(`:${key}`).toString('base64')}` } : {}),
    },
  })
  return { ok: true, status: res.statusCode, body: await readBody(res.body) }
}

async function probe(discoverd: DiscoverdClient, check: Check): Promise<ComponentStatus> {
  const signal = AbortSignal.timeout(probeTimeoutMs)
  let result: ProbeResult
  try {
    const instance = await find(discoverd, check, signal)
    result = instance
      ? await ask(check, instance, signal)
      : { ok: false, reason: check.of === 'leader' ? 'no leader' : 'no instances' }
  } catch (e) {
    result = {
      ok: false,
      reason: signal.aborted ? `no answer within ${probeTimeoutMs} ms` : describeError(e),
    }
  }
  return toComponentStatus(result)
}

/** A function that answers the cluster's status; calls during a round share its result. */
export function clusterProbe(discoverd: DiscoverdClient): () => Promise<ClusterStatus> {
  let running: Promise<ClusterStatus> | undefined
  const round = async () => {
    const results = await Promise.all(
      checks.map(async check => [check, await probe(discoverd, check)] as const),
    )
    return summarize(results, version)
  }
  return () => {
    running ??= round().finally(() => {
      running = undefined
    })
    return running
  }
}
