// The running HAProxy: its runtime connection, which worker serves, and reading its files anew without a lost
// connection. It is kept running by the job's supervisor, not from here.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { poll } from '../pkg/clock/clock.ts'
import { masterCommand, oldWorkers } from '../pkg/haproxy/master.ts'
import { HaproxyRuntime } from '../pkg/haproxy/runtime.ts'
import type { Logger } from '../pkg/log/log.ts'
import { generationVariable } from './config.core.ts'
import { errors } from './errors.ts'
import { files } from './frontend.core.ts'

export const reloadTimeoutMs = 30_000
export const reconnectPauseMs = 50
export const resignalMinMs = 3_000
/** HAProxy read ten thousand certificates in 9.6 s (`-c`, quiet); told again meanwhile, it would read them all again. */
const certificateMs = 5

export class HaproxyProcess {
  readonly #dir: string
  readonly #log: Logger
  #runtime: Promise<HaproxyRuntime> | undefined
  /** True while workers of before a reload may be left. */
  #mayHaveOld = false

  constructor(dir: string, log: Logger) {
    this.#dir = dir
    this.#log = log
  }

  /** The runtime connection; made anew when it was lost. */
  runtime(): Promise<HaproxyRuntime> {
    if (this.#runtime) return this.#runtime
    const opened: Promise<HaproxyRuntime> = HaproxyRuntime.open(join(this.#dir, files.socket), e => {
      if (this.#runtime !== opened) return
      this.#runtime = undefined
      this.#log.info({ err: e }, 'runtime connection ended')
    })
    this.#runtime = opened
    opened.catch(() => {
      if (this.#runtime === opened) this.#runtime = undefined
    })
    return opened
  }

  async close(): Promise<void> {
    const runtime = this.#runtime
    this.#runtime = undefined
    await runtime?.then(
      r => r.close(),
      () => undefined,
    )
  }

  /** Process id of the worker that serves; rejects when none answers. */
  async pid(): Promise<string> {
    const pid = /^Pid: (\d+)$/m.exec(await (await this.runtime()).command('show info'))?.[1]
    if (pid === undefined) throw new Error('HAProxy told no pid')
    return pid
  }

  /**
   * HAProxy reads its files anew without dropping a connection, or starts if it is not running. `generation` is what the
   * configuration sets as `generationVariable`: who knows it has read this one. It is given more time the more
   * `certificates` there are. Answers the process id of the new worker.
   */
  async reload(reason: string, generation: string, certificates: number): Promise<string> {
    this.#log.info({ reason, generation }, 'reloading HAProxy')
    this.#mayHaveOld = true
    const writtenAt = await ticksSinceBoot()
    const timeoutMs = reloadTimeoutMs + certificates * certificateMs
    let signalMs = 0
    let nextMs = resignalMinMs + certificates * certificateMs
    const renewed = async () => {
      // A master that is only starting may miss the signal: it is given again, ever less often.
      if (performance.now() >= signalMs) {
        await this.#signalMaster(writtenAt)
        signalMs = performance.now() + nextMs
        nextMs *= 2
      }
      await this.close()
      const answer = await (await this.runtime()).command(`show env ${generationVariable}`)
      return answer === `${generationVariable}=${generation}` ? await this.pid() : undefined
    }
    try {
      const pid = await poll(renewed, {
        timeoutMs,
        intervalMs: reconnectPauseMs,
        what: 'the new HAProxy',
      })
      // Whoever looked meanwhile may have seen no old worker yet.
      this.#mayHaveOld = true
      return pid
    } catch (e) {
      throw errors.RELOAD_FAILED({ ms: timeoutMs }, { cause: e })
    }
  }

  /** One that started after the files were written reads them anyway. */
  async #signalMaster(writtenAt: number): Promise<void> {
    const master = Number(await readFile(join(this.#dir, files.pid), 'utf8').catch(() => ''))
    if (master > 0 && (await startOf(master)) <= writtenAt) signal(master, 'SIGUSR2')
  }

  /**
   * Connections in use on a server: by the worker that serves and by those that a reload retired. Rejects while no HAProxy
   * answers, because then nobody knows.
   */
  async connections(id: string): Promise<number> {
    const [slot = ''] = id.split('/')
    const command = `show servers conn ${slot}`
    let used = usedConnections(await (await this.runtime()).command(command), id)
    for (const pid of await this.#oldWorkers()) {
      used += usedConnections(await masterCommand(join(this.#dir, files.master), `@!${pid} ${command}`), id)
    }
    return used
  }

  async #oldWorkers(): Promise<readonly string[]> {
    // A control process that was itself restarted knows of no reload, but its first table makes one.
    if (!this.#mayHaveOld) return []
    const pids = oldWorkers(await masterCommand(join(this.#dir, files.master), 'show proc'))
    this.#mayHaveOld = pids.length > 0
    return pids
  }
}

/** Connections in use, from `show servers conn`: the column is found by its name; 0 when the server is not there. */
export function usedConnections(text: string, id: string): number {
  const lines = text.split('\n')
  const columns = (lines.find(l => l.startsWith('#')) ?? '').replace(/^#\s*/, '').split(/\s+/)
  const used = columns.indexOf('used_cur')
  const row = lines.find(l => l.startsWith(`${id} `))?.split(/\s+/)
  return row ? Number(row[used < 0 ? 6 : used]) : 0
}

/** proc_pid_stat(5), proc_uptime(5): both count hundredths of a second since boot. */
async function ticksSinceBoot(): Promise<number> {
  return Math.round(Number.parseFloat(await readFile('/proc/uptime', 'utf8')) * 100)
}

/** When a process began, in ticks since boot; never, when it is not there. */
async function startOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch((e: NodeJS.ErrnoException) => {
    if (e.code !== 'ENOENT' && e.code !== 'ESRCH') throw e
    return undefined
  })
  // The second field is a name in brackets, which may have anything in it; the start is the 22nd.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields === undefined ? Number.POSITIVE_INFINITY : Number(fields[19])
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code !== 'ESRCH') throw e
  }
}
