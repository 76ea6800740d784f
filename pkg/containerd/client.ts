// A thin typed client of containerd: only the calls that a host makes, each with a deadline, errors reduced to
// ContainerdError. The channel reconnects by itself; a call made while nobody answers fails with 'unavailable'.
import {
  type ClientReadableStream,
  credentials,
  Client as GrpcClient,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js'
import { ContainerdError, fromServiceError, isContainerdError } from './errors.ts'
import { decode, encode, method } from './proto.ts'

export const callTimeoutMs = 10_000
/** Creating and ending a task runs runc, mounts and unmounts: slow on a busy disk. */
export const taskTimeoutMs = 60_000
/** A wait is asked again after this time, so that a connection which died silently is noticed. */
export const waitTimeoutMs = 10 * 60_000
const messageBytesMax = 64 * 1024 * 1024

const specTypeUrl = 'types.containerd.io/opencontainers/runtime-spec/1/Spec'
const runcOptionsTypeUrl = 'containerd.runc.v1.Options'
const oomTypeUrl = 'containerd.events.TaskOOM'
const runcShim = 'io.containerd.runc.v2'

const services = {
  containers: 'containerd.services.containers.v1.Containers',
  tasks: 'containerd.services.tasks.v1.Tasks',
  events: 'containerd.services.events.v1.Events',
  namespaces: 'containerd.services.namespaces.v1.Namespaces',
  version: 'containerd.services.version.v1.Version',
} as const

type Timestamp = { readonly seconds: number; readonly nanos: number }

export type TaskStatus = 'created' | 'running' | 'stopped' | 'unknown'

export type Task = {
  readonly id: string
  readonly pid: number
  readonly status: TaskStatus
  readonly exitStatus: number
}

export type TaskExit = { readonly status: number; readonly at: Date }

export type RootfsMount = {
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
}

export type NewContainer = {
  readonly id: string
  /** OCI runtime spec, as a plain value. */
  readonly spec: object
  readonly labels?: Readonly<Record<string, string>>
  readonly runcRoot: string
}

export type NewTask = {
  readonly id: string
  readonly rootfs: readonly RootfsMount[]
  readonly stdin: string
  readonly stdout: string
  readonly stderr: string
  readonly terminal: boolean
}

export type OomEvent = { readonly id: string }

export type ClientOptions = { readonly socket: string; readonly namespace: string }

type CallOptions = { readonly timeoutMs?: number; readonly signal?: AbortSignal }

type WireTask = {
  readonly container_id: string
  readonly id: string
  readonly pid: number
  readonly status: string
  readonly exit_status: number
}

function toDate(t: Timestamp | null): Date {
  return new Date(t === null ? 0 : t.seconds * 1000 + Math.floor(t.nanos / 1e6))
}

function toStatus(wire: string): TaskStatus {
  if (wire === 'CREATED') return 'created'
  if (wire === 'STOPPED') return 'stopped'
  // A paused task has its processes; nobody but an operator pauses one.
  if (wire === 'RUNNING' || wire === 'PAUSED' || wire === 'PAUSING') return 'running'
  return 'unknown'
}

function toTask(t: WireTask): Task {
  // Answers of Get carry the container id in `id`, answers of List in both.
  return { id: t.container_id || t.id, pid: t.pid, status: toStatus(t.status), exitStatus: t.exit_status }
}

export class ContainerdClient {
  readonly #grpc: GrpcClient
  readonly #metadata: Metadata
  readonly #namespace: string

  constructor(options: ClientOptions) {
    this.#namespace = options.namespace
    this.#grpc = new GrpcClient(`unix:${options.socket}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': messageBytesMax,
      // The default back-off grows to two minutes: far too long for a daemon that restarts in 100 ms.
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.min_reconnect_backoff_ms': 50,
      'grpc.max_reconnect_backoff_ms': 500,
      'grpc.keepalive_time_ms': 60_000,
      'grpc.enable_retries': 0,
      // Each instance has its own channel; a shared one would outlive `close` of its other users.
      'grpc.use_local_subchannel_pool': 1,
    })
    this.#metadata = new Metadata()
    this.#metadata.set('containerd-namespace', options.namespace)
  }

  close(): void {
    this.#grpc.close()
  }

  #call<T>(service: string, name: string, request: object, options: CallOptions = {}): Promise<T> {
    const m = method(service, name)
    return new Promise<T>((resolve, reject) => {
      if (options.signal?.aborted) {
        reject(new ContainerdError(name, 'aborted', 'aborted'))
        return
      }
      const call = this.#grpc.makeUnaryRequest(
        m.path,
        m.requestSerialize,
        m.responseDeserialize,
        request,
        this.#metadata,
        { deadline: Date.now() + (options.timeoutMs ?? callTimeoutMs) },
        (e: ServiceError | null, answer?: unknown) => {
          options.signal?.removeEventListener('abort', onAbort)
          if (e) reject(fromServiceError(name, e))
          else resolve(answer as T)
        },
      )
      const onAbort = () => call.cancel()
      options.signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** containerd's version; the cheapest proof that it answers. */
  async version(timeoutMs = 2_000): Promise<string> {
    const answer = await this.#call<{ version: string }>(services.version, 'Version', {}, { timeoutMs })
    return answer.version
  }

  /** Makes our namespace; fine when it exists. */
  async ensureNamespace(): Promise<void> {
    try {
      await this.#call(services.namespaces, 'Create', { namespace: { name: this.#namespace } })
    } catch (e) {
      if (!isContainerdError(e, 'exists')) throw e
    }
  }

  async createContainer(container: NewContainer): Promise<void> {
    await this.#call(services.containers, 'Create', {
      container: {
        id: container.id,
        labels: container.labels ?? {},
        runtime: {
          name: runcShim,
          options: {
            type_url: runcOptionsTypeUrl,
            value: encode(runcOptionsTypeUrl, { root: container.runcRoot }),
          },
        },
        spec: { type_url: specTypeUrl, value: Buffer.from(JSON.stringify(container.spec)) },
      },
    })
  }

  async hasContainer(id: string): Promise<boolean> {
    try {
      await this.#call(services.containers, 'Get', { id })
      return true
    } catch (e) {
      if (isContainerdError(e, 'not-found')) return false
      throw e
    }
  }

  async listContainers(): Promise<readonly string[]> {
    const answer = await this.#call<{ containers: readonly { id: string }[] }>(
      services.containers,
      'List',
      {},
    )
    return answer.containers.map(c => c.id)
  }

  async deleteContainer(id: string): Promise<void> {
    await this.#call(services.containers, 'Delete', { id })
  }

  /** Mounts the root file system and runs `runc create`; the answer is the pid of the container's first process. */
  async createTask(task: NewTask): Promise<number> {
    const { id, ...rest } = task
    const request = { container_id: id, ...rest }
    const options = { timeoutMs: taskTimeoutMs }
    return (await this.#call<{ pid: number }>(services.tasks, 'Create', request, options)).pid
  }

  async startTask(id: string): Promise<void> {
    await this.#call(services.tasks, 'Start', { container_id: id }, { timeoutMs: taskTimeoutMs })
  }

  async deleteTask(id: string): Promise<void> {
    await this.#call(services.tasks, 'Delete', { container_id: id }, { timeoutMs: taskTimeoutMs })
  }

  /** The task, or undefined when containerd knows none of this id. */
  async getTask(id: string): Promise<Task | undefined> {
    try {
      const answer = await this.#call<{ process: WireTask }>(services.tasks, 'Get', { container_id: id })
      return toTask(answer.process)
    } catch (e) {
      if (isContainerdError(e, 'not-found')) return undefined
      throw e
    }
  }

  async listTasks(): Promise<readonly Task[]> {
    const answer = await this.#call<{ tasks: readonly WireTask[] }>(services.tasks, 'List', {})
    return answer.tasks.map(toTask)
  }

  /** Resolves when the task has ended, at once when it has already; rejects 'deadline' after `waitTimeoutMs`. */
  async waitTask(id: string, signal: AbortSignal): Promise<TaskExit> {
    const options = { timeoutMs: waitTimeoutMs, signal }
    const answer = await this.#call<{ exit_status: number; exited_at: Timestamp | null }>(
      services.tasks,
      'Wait',
      { container_id: id },
      options,
    )
    return { status: answer.exit_status, at: toDate(answer.exited_at) }
  }

  /** Signals the first process, or with `all` every process of the container. */
  async killTask(id: string, signal: number, all = false): Promise<void> {
    await this.#call(services.tasks, 'Kill', { container_id: id, signal, all })
  }

  async resizeTask(id: string, size: { readonly rows: number; readonly columns: number }): Promise<void> {
    await this.#call(services.tasks, 'ResizePty', {
      container_id: id,
      width: size.columns,
      height: size.rows,
    })
  }

  /** The shim closes its own writer of the stdin pipe; the task reads its end once all other writers are closed. */
  async closeStdin(id: string): Promise<void> {
    await this.#call(services.tasks, 'CloseIO', { container_id: id, stdin: true })
  }

  /**
   * Out-of-memory events of our namespace from now on. Resolves when the stream has ended without an error, rejects
   * when it broke; events of the time between two subscriptions are not repeated by containerd.
   */
  watchOom(onEvent: (event: OomEvent) => void, signal: AbortSignal): Promise<void> {
    const m = method(services.events, 'Subscribe')
    return new Promise((resolve, reject) => {
      const filters = [`namespace==${this.#namespace},topic=="/tasks/oom"`]
      const stream = this.#grpc.makeServerStreamRequest(
        m.path,
        m.requestSerialize,
        m.responseDeserialize,
        { filters },
        this.#metadata,
      ) as ClientReadableStream<{ event: { type_url: string; value: Buffer } | null }>
      const onAbort = () => stream.cancel()
      const settle = () => signal.removeEventListener('abort', onAbort)
      signal.addEventListener('abort', onAbort, { once: true })
      if (signal.aborted) onAbort()
      stream.on('data', envelope => {
        if (envelope.event?.type_url !== oomTypeUrl) return
        const { container_id: id } = decode<{ container_id: string }>(
          'containerd.services.events.v1.TaskOom',
          envelope.event.value,
        )
        onEvent({ id })
      })
      stream.once('error', e => {
        settle()
        reject(fromServiceError('Subscribe', e as ServiceError))
      })
      stream.once('end', () => {
        settle()
        resolve()
      })
    })
  }
}
