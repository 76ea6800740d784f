// When jobs of a host came to run and when they were cleaned, off one subscription to the host's event stream.
import type { HostClient } from '../../host/client.ts'
import type { JobEvent } from '../../host/types.ts'

const patienceMs = 60_000

export type JobStarts = AsyncDisposable & {
  /** Resolves with `performance.now()` of the arrival of the job's `start`; rejects when it fails or takes too long. */
  running(id: string): Promise<number>
  cleaned(id: string): Promise<number>
}

type Waiting = { readonly resolve: (atMs: number) => void; readonly reject: (e: Error) => void }

export async function watchJobStarts(client: HostClient): Promise<JobStarts> {
  const stop = new AbortController()
  const opened = Promise.withResolvers<void>()
  const waiting = new Map<string, Waiting>()
  const take = (key: string) => {
    const found = waiting.get(key)
    waiting.delete(key)
    return found
  }
  const arrived = (event: JobEvent) => {
    const id = event.job_id
    const atMs = performance.now()
    if (event.event === 'start') take(`start ${id}`)?.resolve(atMs)
    else if (event.event === 'cleanup') take(`cleanup ${id}`)?.resolve(atMs)
    else if (event.event === 'error' || event.event === 'stop')
      take(`start ${id}`)?.reject(new Error(`job ${id} did not run: ${event.job.error ?? event.event}`))
  }
  const reading = (async () => {
    for await (const event of client.jobEvents({ signal: stop.signal, onOpen: opened.resolve }))
      arrived(event)
  })().catch((e: unknown) => {
    if (stop.signal.aborted) return
    opened.reject(e)
    for (const key of [...waiting.keys()])
      take(key)?.reject(new Error('the event stream broke', { cause: e }))
  })
  await opened.promise
  const wait = async (key: string) => {
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    waiting.set(key, { resolve, reject })
    const timer = setTimeout(
      () => take(key)?.reject(new Error(`no "${key}" in ${patienceMs} ms`)),
      patienceMs,
    )
    return promise.finally(() => clearTimeout(timer))
  }
  return {
    running: id => wait(`start ${id}`),
    cleaned: id => wait(`cleanup ${id}`),
    async [Symbol.asyncDispose]() {
      stop.abort()
      await reading
    },
  }
}
