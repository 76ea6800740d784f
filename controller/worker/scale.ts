// Scales a release and waits until that is done: the scale request's own end, a job that does not come up, or the
// deadline (contract controller.md 5.1). The event stream stands before the request is made, so nothing is missed.
import { sleep } from '../../pkg/clock/clock.ts'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import type { ControllerEvent, Job, Processes, ProcessTags, ScaleRequest } from '../types.ts'
import type { TaskContext } from './context.ts'
import { jobFailuresMax } from './deployment.core.ts'
import { errors } from './errors.ts'

export type Scale = {
  readonly app: string
  readonly release: string
  readonly processes: Processes
  readonly tags?: ProcessTags | undefined
  readonly timeoutMs: number
  /** Count the release's jobs that go down, and fail at the sixth. */
  readonly watchJobs: boolean
  /**
   * No job may go down for so long once all run. For types without a service to tell that they are well: such a job
   * counts as up as soon as it runs, also when it ends at once.
   */
  readonly steadyMs?: number
}

function describe(processes: Processes): string {
  return Object.entries(processes)
    .map(([type, n]) => `${type}=${n}`)
    .join(' ')
}

/** Asks for the counts without waiting. */
export async function requestScale(
  ctx: TaskContext,
  scale: Pick<Scale, 'app' | 'release' | 'processes' | 'tags'>,
): Promise<ScaleRequest> {
  return ctx.controller.createScale(
    scale.app,
    scale.release,
    { new_processes: { ...scale.processes }, ...(scale.tags ? { new_tags: { ...scale.tags } } : {}) },
    { signal: ctx.signal },
  )
}

/** What the events so far say of the wait: still going, done, or an error to fail with. */
class Progress {
  readonly #scale: Scale
  readonly #states = new Map<string, ScaleRequest['state']>()
  /** Jobs that were there since: one that an earlier change stops may end only now, and says nothing of this one. */
  readonly #alive = new Set<string>()
  #downs = 0
  /** Of the moment that everything ran, or of the last job that went down after it. */
  #steadySince: number | undefined
  #failure: Error | undefined
  id: string | undefined

  constructor(scale: Scale) {
    this.#scale = scale
  }

  take(event: ControllerEvent): void {
    if (event.object_type === 'scale_request') {
      const request = event.data as ScaleRequest
      this.#states.set(request.id, request.state)
    } else if (event.object_type === 'job' && this.#scale.watchJobs) this.#takeJob(event.data as Job)
  }

  #takeJob(job: Job): void {
    const down = job.state === 'down' || job.state === 'crashed' || job.state === 'failed'
    if (job.release !== this.#scale.release || !job.type) return
    if (!down) {
      if (job.state !== 'stopping') this.#alive.add(job.uuid)
      return
    }
    if (!this.#alive.has(job.uuid)) return
    this.#downs++
    if (this.#steadySince !== undefined) this.#steadySince = Date.now()
    if (this.#downs <= jobFailuresMax) return
    const reason =
      job.host_error ??
      (job.exit_status === undefined ? 'got down job event' : `it ended with status ${job.exit_status}`)
    this.#failure ??= errors.JOB_FAILED({ type: job.type, reason })
  }

  /** Milliseconds until it is done if nothing happens; 0 when done, undefined when not near. Throws the failure. */
  remainingMs(): number | undefined {
    if (this.#failure) throw this.#failure
    const { processes, release, steadyMs } = this.#scale
    const state = this.id === undefined ? undefined : this.#states.get(this.id)
    if (state === 'cancelled') throw errors.SCALE_CANCELLED({ processes: describe(processes), release })
    if (state !== 'complete') return undefined
    this.#steadySince ??= Date.now()
    return Math.max(0, this.#steadySince + (steadyMs ?? 0) - Date.now())
  }
}

/** Resolves when as many jobs run as asked for. Rejects with the table's errors; the request stays in force then. */
export async function scaleAndWait(ctx: TaskContext, scale: Scale): Promise<void> {
  const deadline = AbortSignal.timeout(scale.timeoutMs)
  const over = new AbortController()
  const signal = AbortSignal.any([ctx.signal, deadline, over.signal])
  const progress = new Progress(scale)
  // From here on: a stream that is lost before its first event (the controller itself is deployed) misses nothing then.
  const [newest] = await ctx.controller.events({ count: 1 }, { signal })
  const asked = Promise.withResolvers<void>()
  // Handled below; a rejection before the first event must not be an unhandled one.
  asked.promise.catch(() => undefined)
  const ask = (): void => {
    requestScale(ctx, scale).then(
      request => {
        progress.id = request.id
        asked.resolve()
        wake()
      },
      (e: unknown) => {
        asked.reject(e)
        over.abort()
      },
    )
  }
  let wake: () => void = () => undefined
  const watching = (async (): Promise<void> => {
    const events = ctx.controller.streamEvents({
      app: scale.app,
      types: ['scale_request', 'job'],
      lastId: newest?.id ?? 0,
      signal,
      onOpen: ask,
    })
    for await (const event of events) {
      progress.take(event)
      wake()
    }
  })()
  const lost = watching.then(
    () => new Error('the event stream ended'),
    (e: unknown) => e,
  )
  try {
    for (;;) {
      const remainingMs = progress.remainingMs()
      if (remainingMs === 0) return
      const woken = new Promise<undefined>(resolve => {
        wake = () => resolve(undefined)
      })
      const timer = remainingMs === undefined ? undefined : setTimeout(() => wake(), remainingMs)
      const failure = await Promise.race([woken, lost])
      clearTimeout(timer)
      if (failure === undefined) continue
      await asked.promise.catch((e: unknown) => {
        if (over.signal.aborted) throw e
      })
      if (ctx.signal.aborted) throw errors.WORKER_STOPPED()
      if (deadline.aborted)
        throw errors.SCALE_TIMEOUT({
          seconds: Math.round(scale.timeoutMs / 1000),
          processes: describe(scale.processes),
          release: scale.release,
        })
      throw failure
    }
  } finally {
    over.abort()
    await lost
  }
}

export const streamRetryMs = 1_000

/** Resolves when a request that was made already is complete, however often the stream of events is lost meanwhile. */
export async function waitScaled(
  ctx: TaskContext,
  { request, timeoutMs }: { readonly request: ScaleRequest; readonly timeoutMs: number },
): Promise<void> {
  const deadline = AbortSignal.timeout(timeoutMs)
  const signal = AbortSignal.any([ctx.signal, deadline])
  const processes = describe(request.new_processes ?? {})
  const { app, id, release } = request
  while (!signal.aborted) {
    try {
      const events = ctx.controller.streamEvents({
        app,
        types: ['scale_request'],
        objectId: id,
        past: true,
        signal,
      })
      for await (const { data } of events) {
        const { state } = data as ScaleRequest
        if (state === 'complete') return
        if (state === 'cancelled') throw errors.SCALE_CANCELLED({ processes, release })
      }
    } catch (e) {
      if (isFlynnError(e, 'scale_cancelled')) throw e
      // The controller or what it stands on is being replaced; the deadline ends this.
      ctx.log.debug({ err: e, request: id }, 'event stream lost while waiting')
    }
    await sleep(streamRetryMs, signal).catch(() => undefined)
  }
  if (ctx.signal.aborted) throw errors.WORKER_STOPPED()
  throw errors.SCALE_TIMEOUT({ seconds: Math.round(timeoutMs / 1000), processes, release })
}
