// The container runtime of a host, on containerd and runc. Holds no state that matters: everything is asked of
// containerd, the job directories and cgroups again, so restarts of this daemon or of containerd lose nothing.
import { readFileSync } from 'node:fs'
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { backoff, sleep } from '../../pkg/clock/clock.ts'
import { ContainerdClient, type TaskExit } from '../../pkg/containerd/client.ts'
import { type ContainerdError, isContainerdError } from '../../pkg/containerd/errors.ts'
import { FlynnError } from '../../pkg/errors/errors.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { listMounts, unmount } from '../../pkg/mount/mount.ts'
import { hostErrors } from '../errors.ts'
import type { HostPaths } from '../paths.ts'
import { Cgroups, type Partitions } from './cgroup.ts'
import { ContainerdDaemon } from './daemon.ts'
import { engineErrors } from './errors.ts'
import { OomWatch } from './oom.ts'
import { makeRootfs, removeRootfs } from './rootfs.ts'
import { type Machine, ociSpec } from './spec.core.ts'
import { endHolder, makeStdio, stdioPaths } from './stdio.ts'
import type {
  ContainerExit,
  ContainerRuntime,
  ContainerSpec,
  ContainerStdio,
  RunningContainer,
} from './types.ts'

/** How long a call waits for a containerd that is being started again. */
export const awayTimeoutMs = 20_000
/** How long a create waits for the end of one that an earlier daemon asked for and that containerd is still at. */
export const formerCreateTimeoutMs = 20_000
const retryMinMs = 50
const retryMaxMs = 500
/** From SIGKILL to the end of a container's first process; longer means that it hangs in the kernel. */
const killTimeoutMs = 30_000
/** From the answer of a start to the exec of the program. */
const programTimeoutMs = 1_000
const sigkill = 9
/** What containerd accepts as an id. */
const idPattern = /^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/
const idCharsMax = 76
const initProgram = '/usr/bin/tini-static'

/**
 * Somebody else makes a container of this id at this moment: an earlier daemon, which died while it waited for the answer. A
 * task of its own is not there yet; its directory is, which containerd tells as it got it from the kernel.
 */
function isOfFormerCreate(e: unknown): boolean {
  if (isContainerdError(e, 'exists')) return true
  return isContainerdError(e) && /\bmkdir \S+: file exists$/.test(e.message)
}

export type RuntimeOptions = {
  readonly paths: HostPaths
  readonly partitions: Partitions
  readonly log: Logger
}

function openFilesMax(): number {
  const line = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]
  return line === undefined || line === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(line)
}

/** The last, telling part of runc's nested messages. */
function reasonOf(e: unknown): string {
  const text = e instanceof Error ? e.message : String(e)
  return text
    .replace(/^containerd \w+: /, '')
    .replace(/^.*OCI runtime create failed: (runc create failed: )?/, '')
}

export class ContainerdRuntime implements ContainerRuntime {
  readonly #paths: HostPaths
  readonly #partitions: Partitions
  readonly #log: Logger
  readonly #client: ContainerdClient
  readonly #daemon: ContainerdDaemon
  readonly #closed = new AbortController()
  /** Containers that we were told to kill: their 137 is not for lack of memory. */
  readonly #killed = new Set<string>()
  #cgroups: Cgroups | undefined
  #oom: OomWatch | undefined
  #machine: Machine | undefined
  readonly #oomListeners: ((id: string) => void)[] = []

  constructor(options: RuntimeOptions) {
    this.#paths = options.paths
    this.#partitions = options.partitions
    this.#log = options.log
    const { containerdSocket: socket, containerdNamespace: namespace } = options.paths
    this.#client = new ContainerdClient({ socket, namespace })
    this.#daemon = new ContainerdDaemon(options.paths, this.#client, options.log)
  }

  /** Process id of containerd while it is known. */
  get containerdPid(): number | undefined {
    return this.#daemon.pid
  }

  async open(signal: AbortSignal): Promise<void> {
    const cgroups = await Cgroups.open(this.#paths.cgroupMount, this.#paths.cgroupRoot, this.#log)
    await cgroups.preparePartitions(this.#partitions)
    this.#cgroups = cgroups
    this.#machine = {
      arch: process.arch,
      openFilesMax: openFilesMax(),
      limitsSwap: await cgroups.limitsSwap(),
      initProgram,
    }
    await mkdir(this.#paths.jobsDir, { recursive: true, mode: 0o711 })
    await this.#daemon.open(signal)
    await this.#client.ensureNamespace()
    this.#oom = new OomWatch({
      client: this.#client,
      cgroups,
      seenFile: id => join(this.#dir(id), 'oom-kills'),
      onOom: id => this.#tellOom(id),
      log: this.#log,
    })
    this.#oom.open()
  }

  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return
    this.#closed.abort()
    await this.#oom?.close()
    await this.#daemon.close()
    this.#client.close()
  }

  onOom(listener: (id: string) => void): void {
    this.#oomListeners.push(listener)
  }

  #tellOom(id: string): void {
    for (const listener of this.#oomListeners) listener(id)
  }

  #dir(id: string): string {
    if (!idPattern.test(id) || id.length > idCharsMax) throw engineErrors.CONTAINER_ID({ id })
    return join(this.#paths.jobsDir, id)
  }

  #opened(): { readonly cgroups: Cgroups; readonly machine: Machine; readonly oom: OomWatch } {
    if (this.#closed.signal.aborted || !this.#cgroups || !this.#machine || !this.#oom)
      throw engineErrors.RUNTIME_CLOSED()
    return { cgroups: this.#cgroups, machine: this.#machine, oom: this.#oom }
  }

  /** Repeats a call that may be repeated while containerd is away. */
  async #whenThere<T>(call: () => Promise<T>): Promise<T> {
    const end = Date.now() + awayTimeoutMs
    const delays = backoff({ minMs: retryMinMs, maxMs: retryMaxMs })
    for (;;) {
      this.#opened()
      try {
        return await call()
      } catch (e) {
        if (!isContainerdError(e, 'unavailable')) throw e
        if (Date.now() >= end) throw this.#unavailable(e)
      }
      await sleep(delays.next(), this.#closed.signal)
    }
  }

  #unavailable(cause: ContainerdError): FlynnError {
    const { containerdSocket: socket, containerdLogFile: log } = this.#paths
    return engineErrors.RUNTIME_UNAVAILABLE({ socket, log }, { cause })
  }

  stdio(id: string): ContainerStdio {
    return stdioPaths(this.#dir(id))
  }

  async create(spec: ContainerSpec): Promise<{ readonly pid: number; readonly stdio: ContainerStdio }> {
    const { id } = spec
    const dir = this.#dir(id)
    const task = await this.#whenThere(() => this.#client.getTask(id))
    // A repeated create finds what the first one made.
    if (task !== undefined) return { pid: task.pid, stdio: stdioPaths(dir) }
    if (await this.#whenThere(() => this.#client.hasContainer(id))) await this.remove(id)
    const end = Date.now() + formerCreateTimeoutMs
    const delays = backoff({ minMs: retryMinMs, maxMs: retryMaxMs })
    for (;;)
      try {
        return await this.#create(spec, dir)
      } catch (e) {
        await this.remove(id).catch(cleanup =>
          this.#log.error({ job: id, err: cleanup }, 'a failed create left something behind'),
        )
        if (e instanceof FlynnError) throw e
        if (isContainerdError(e, 'unavailable')) throw this.#unavailable(e)
        if (!isOfFormerCreate(e) || Date.now() >= end)
          throw engineErrors.CONTAINER_CREATE({ id, reason: reasonOf(e) }, { cause: e })
        await sleep(delays.next(), this.#closed.signal)
      }
  }

  async #create(spec: ContainerSpec, dir: string) {
    const { machine } = this.#opened()
    const { id } = spec
    await mkdir(dir, { recursive: true, mode: 0o711 })
    const resolvConf = join(dir, 'resolv.conf')
    const [rootfs, stdio] = await Promise.all([
      this.#makeRootfs(spec, dir),
      makeStdio(dir, spec),
      this.#copyResolvConf(resolvConf),
    ])
    const cgroupRoot = this.#paths.cgroupRoot
    const oci = ociSpec(spec, { machine, cgroupRoot, resolvConf })
    const labels = { partition: spec.partition }
    await this.#client.createContainer({ id, spec: oci, labels, runcRoot: this.#paths.runcRootDir })
    const pid = await this.#client.createTask({
      id,
      rootfs: [rootfs],
      stdin: stdio.stdin ?? '',
      stdout: stdio.stdout,
      stderr: stdio.stderr ?? '',
      terminal: spec.tty,
    })
    return { pid, stdio }
  }

  async #makeRootfs(spec: ContainerSpec, dir: string) {
    const { id } = spec
    if (spec.layers.length === 0) throw engineErrors.ROOTFS({ id, reason: 'the job has no image layers' })
    try {
      return await makeRootfs({
        dir,
        layers: spec.layers,
        tempDiskBytes: spec.limits.tempDiskBytes,
        files: {
          'etc/hosts': `127.0.0.1 localhost ${spec.hostname}\n`,
          'etc/hostname': `${spec.hostname}\n`,
          // A regular file for the bind mount to lie on, even where the image has a link (contract 10, no. 21).
          'etc/resolv.conf': '',
        },
      })
    } catch (e) {
      throw engineErrors.ROOTFS({ id, reason: reasonOf(e) }, { cause: e })
    }
  }

  /** The cluster's resolv.conf once there is one, before that the machine's (contract host.md 3.7). */
  async #copyResolvConf(target: string): Promise<void> {
    for (const source of [this.#paths.resolvConf, this.#paths.hostResolvConf]) {
      try {
        await copyFile(source, target)
        return
      } catch (e) {
        if ((e as NodeJS.ErrnoException).code !== 'ENOENT') throw e
      }
    }
    await writeFile(target, '')
  }

  async start(id: string): Promise<void> {
    try {
      await this.#whenThere(async () => {
        const task = await this.#client.getTask(id)
        if (task === undefined) throw engineErrors.CONTAINER_UNKNOWN({ id })
        if (task.status !== 'created') return
        await this.#client.startTask(id)
        await this.#waitForProgram(task.pid)
      })
    } catch (e) {
      if (e instanceof FlynnError) throw e
      throw engineErrors.CONTAINER_START({ id, reason: reasonOf(e) }, { cause: e })
    }
  }

  /**
   * runc's own start-up code answers for a moment yet after the start; a signal sent then would end the job with
   * runc's exit code instead of the program's.
   */
  async #waitForProgram(pid: number): Promise<void> {
    const end = Date.now() + programTimeoutMs
    while (Date.now() < end) {
      const comm = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')
      if (!comm.startsWith('runc:')) return
      await sleep(1, this.#closed.signal)
    }
  }

  async wait(id: string, signal: AbortSignal): Promise<ContainerExit> {
    const exit = await this.#waitForExit(id, AbortSignal.any([signal, this.#closed.signal]))
    const kills = await this.#opened().oom.check(id)
    return {
      status: exit.status,
      oomKilled: exit.status === 128 + sigkill && kills > 0 && !this.#killed.has(id),
      at: exit.at,
    }
  }

  async #waitForExit(id: string, signal: AbortSignal): Promise<TaskExit> {
    const delays = backoff({ minMs: retryMinMs, maxMs: retryMaxMs })
    for (;;) {
      signal.throwIfAborted()
      try {
        return await this.#client.waitTask(id, signal)
      } catch (e) {
        signal.throwIfAborted()
        if (isContainerdError(e, 'not-found')) throw hostErrors.CONTAINER_LOST({ id }, { cause: e })
        // Deadline: ask again. Anything else: containerd or the shim went away; ask until one of them says more.
        if (isContainerdError(e, 'deadline')) continue
        if (!isContainerdError(e, 'unavailable'))
          this.#log.warn({ job: id, err: e }, 'waiting for a container failed, trying again')
      }
      await sleep(delays.next(), signal)
    }
  }

  async signal(id: string, signal: number): Promise<void> {
    if (signal === sigkill) this.#killed.add(id)
    await this.#whenThere(async () => {
      const task = await this.#client.getTask(id)
      if (task === undefined) throw engineErrors.CONTAINER_UNKNOWN({ id })
      if (task.status === 'stopped') return
      await this.#client.killTask(id, signal).catch(ignoreGone)
    })
  }

  async resize(id: string, rows: number, columns: number): Promise<void> {
    await this.#whenThere(() => this.#client.resizeTask(id, { rows, columns })).catch(ignoreGone)
  }

  async closeStdin(id: string): Promise<void> {
    // The end of stdin closes a terminal altogether (the shim hangs it up); there ^D is how people end input.
    const { stdin, stderr } = this.stdio(id)
    if (stdin === undefined || stderr === undefined) return
    await this.#whenThere(() => this.#client.closeStdin(id)).catch(ignoreGone)
  }

  async remove(id: string): Promise<void> {
    const dir = this.#dir(id)
    const { cgroups } = this.#opened()
    const cgroup = await cgroups.find(id)
    try {
      await this.#whenThere(() => this.#endTask(id))
      await this.#whenThere(() => this.#client.deleteContainer(id)).catch(ignoreGone)
      await this.#unmountBundle(id)
      await endHolder(dir)
      await removeRootfs(dir)
      if (cgroup !== undefined) await cgroups.removeLeftovers(cgroup)
    } catch (e) {
      if (e instanceof FlynnError) throw e
      throw engineErrors.CONTAINER_REMOVE({ id, reason: reasonOf(e) }, { cause: e })
    }
    this.#killed.delete(id)
    this.#oom?.forget(id)
  }

  /** Kills what runs, waits for its end, and lets containerd delete the task with its shim and root mount. */
  async #endTask(id: string): Promise<void> {
    const task = await this.#client.getTask(id)
    if (task === undefined) return
    if (task.status !== 'stopped') {
      await this.#client.killTask(id, sigkill, true).catch(ignoreGone)
      const deadline = AbortSignal.any([AbortSignal.timeout(killTimeoutMs), this.#closed.signal])
      await this.#client.waitTask(id, deadline).catch(ignoreGone)
    }
    await this.#client.deleteTask(id).catch(ignoreGone)
  }

  /** The root of a container whose shim was killed hard may still be mounted. */
  async #unmountBundle(id: string): Promise<void> {
    const below = join(this.#paths.containerdStateDir, 'io.containerd.runtime.v2.task')
    const target = join(below, this.#paths.containerdNamespace, id, 'rootfs')
    if ((await listMounts()).some(m => m.target === target)) await unmount(target)
  }

  async list(): Promise<readonly RunningContainer[]> {
    const [tasks, containers] = await this.#whenThere(() =>
      Promise.all([this.#client.listTasks(), this.#client.listContainers()]),
    )
    const withTask = new Set(tasks.map(t => t.id))
    return [
      ...tasks.map(
        t => ({ id: t.id, pid: t.pid, status: t.status === 'unknown' ? 'stopped' : t.status }) as const,
      ),
      // No task: its shim was killed, or the machine was off. `wait` says CONTAINER_LOST.
      ...containers.filter(id => !withTask.has(id)).map(id => ({ id, pid: 0, status: 'stopped' }) as const),
    ]
  }

  async usage(id: string) {
    const { cgroups } = this.#opened()
    const cgroup = await cgroups.find(id)
    if (cgroup === undefined) throw engineErrors.CONTAINER_UNKNOWN({ id })
    return cgroups.usage(cgroup)
  }
}

/** For calls whose aim is reached when containerd does not know the process any more. */
function ignoreGone(e: unknown): void {
  if (!isContainerdError(e, 'not-found', 'precondition')) throw e
}
