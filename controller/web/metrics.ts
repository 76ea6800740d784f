// GET /metrics: figures of this process in Prometheus' text format (version 0.0.4). Paths are those of the table of
// endpoints, so that ids make no new series.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { version } from '../../pkg/version/version.ts'
import type { Context, Routes } from './context.ts'

/** Upper bounds of the histogram of answers, in seconds. */
const boundsSeconds = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const
const loopResolutionMs = 20

type Timing = { readonly counts: number[]; sumSeconds: number; total: number }

function label(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}

export class Metrics {
  readonly #answers = new Map<string, number>()
  readonly #timings = new Map<string, Timing>()
  /** Runs from the first request for figures on: its timer wakes the process 50 times a second, for nothing where nobody asks. */
  readonly #loop = monitorEventLoopDelay({ resolution: loopResolutionMs })

  observe(req: FastifyRequest, reply: FastifyReply): void {
    const route = req.routeOptions.url ?? 'none'
    const series = `method="${label(req.method)}",route="${label(route)}"`
    const answer = `${series},status="${reply.statusCode}"`
    this.#answers.set(answer, (this.#answers.get(answer) ?? 0) + 1)
    const timing = this.#timings.get(series) ?? { counts: [], sumSeconds: 0, total: 0 }
    const seconds = reply.elapsedTime / 1000
    const at = boundsSeconds.findIndex(bound => seconds <= bound)
    if (at >= 0) timing.counts[at] = (timing.counts[at] ?? 0) + 1
    timing.sumSeconds += seconds
    timing.total += 1
    this.#timings.set(series, timing)
  }

  #histogram(): string[] {
    const name = 'flynn_controller_http_duration_seconds'
    const lines = [`# HELP ${name} Time from a request to its answer.`, `# TYPE ${name} histogram`]
    for (const [series, timing] of this.#timings) {
      let below = 0
      for (const [index, bound] of boundsSeconds.entries()) {
        below += timing.counts[index] ?? 0
        lines.push(`${name}_bucket{${series},le="${bound}"} ${below}`)
      }
      lines.push(`${name}_bucket{${series},le="+Inf"} ${timing.total}`)
      lines.push(`${name}_sum{${series}} ${timing.sumSeconds.toFixed(6)}`)
      lines.push(`${name}_count{${series}} ${timing.total}`)
    }
    return lines
  }

  text(ctx: Context): string {
    const gauge = (name: string, help: string, value: number): string[] => [
      `# HELP flynn_controller_${name} ${help}`,
      `# TYPE flynn_controller_${name} gauge`,
      `flynn_controller_${name} ${value}`,
    ]
    const memory = process.memoryUsage()
    const pool = ctx.pool()
    const answers = 'flynn_controller_http_requests_total'
    return [
      '# HELP flynn_controller_info Version of the controller.',
      '# TYPE flynn_controller_info gauge',
      `flynn_controller_info{version="${label(version)}"} 1`,
      `# HELP ${answers} Answered requests.`,
      `# TYPE ${answers} counter`,
      ...[...this.#answers].map(([series, n]) => `${answers}{${series}} ${n}`),
      ...this.#histogram(),
      ...gauge('streams', 'Open event streams.', ctx.load.streams),
      ...gauge('attached_jobs', 'Callers attached to jobs.', ctx.load.attached),
      ...gauge('requests_open', 'Requests taken and not answered, streams included.', ctx.load.requests),
      ...gauge('last_event_id', 'Newest event that was handed to streams.', ctx.hub.lastId),
      ...gauge('database_connections', 'Connections to the database.', pool.total),
      ...gauge('database_connections_idle', 'Connections to the database without work.', pool.idle),
      ...gauge('database_waiting', 'Queries that wait for a connection.', pool.waiting),
      ...gauge('resident_memory_bytes', 'Resident memory of the process.', memory.rss),
      ...gauge('heap_used_bytes', 'Heap in use.', memory.heapUsed),
      ...gauge(
        'event_loop_delay_p99_seconds',
        'Delay of the event loop since the last request for figures; next to nothing in the first answer.',
        this.#delaySeconds(),
      ),
      '',
    ].join('\n')
  }

  #delaySeconds(): number {
    const p99 = this.#loop.percentile(99) / 1e9
    this.#loop.reset()
    this.#loop.enable()
    return p99
  }
}

export function metricsRoutes(metrics: Metrics): Routes {
  return (server, ctx) => {
    server.get('/metrics', (_req, reply) =>
      reply.type('text/plain; version=0.0.4; charset=utf-8').send(metrics.text(ctx)),
    )
  }
}
