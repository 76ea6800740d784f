// Takes Flynn off this machine again: daemon, containers, mounts, pool, bridge, files. Every part may be missing.
import { readdir, readFile, rm, rmdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { HostClient } from '../host/client.ts'
import { isActive } from '../host/types.ts'
import { poll } from '../pkg/clock/clock.ts'
import { describeError } from '../pkg/errors/errors.ts'
import { run } from '../pkg/proc/run.ts'
import type { Progress } from '../pkg/progress/progress.ts'
import { layout } from './layout.ts'
import { hasSystemd, stopDaemon } from './service.ts'

const stopJobsTimeoutMs = 90_000
const processEndTimeoutMs = 15_000
const bridge = 'flynnbr0'
const pool = 'flynn-default'

/** Through the running daemon when it answers, so that databases end in order; what is left is ended later. */
async function stopJobs(): Promise<void> {
  const authKey = (await readFile(join(layout.configuration, 'auth-key'), 'utf8').catch(() => '')).trim()
  const client = new HostClient({ url: 'http://127.0.0.1:1113', authKey })
  const jobs = Object.values(await client.jobs({ active: true, retryMs: 0, timeoutMs: 5000 }))
  const isDiscoverd = (name: string | undefined) => name === 'discoverd'
  const others = jobs.filter(j => isActive(j) && !isDiscoverd(j.job.metadata?.['flynn-controller.app_name']))
  const scheduler = others.filter(j => j.job.metadata?.['flynn-controller.type'] === 'scheduler')
  await Promise.allSettled(scheduler.map(j => client.stopJob(j.job.id)))
  await Promise.allSettled(others.map(j => client.stopJob(j.job.id, { timeoutMs: stopJobsTimeoutMs })))
}

const cgroupMount = '/sys/fs/cgroup'
const cgroupRoot = 'flynn'
const fusePidFile = '/run/flynn/zfs-fuse.pid'

/** Directories of jobs' cgroups, deepest first, in every hierarchy there is. */
async function cgroups(): Promise<readonly string[]> {
  const below = async (dir: string): Promise<string[]> => {
    const entries = await readdir(dir, { withFileTypes: true }).catch(() => [])
    const children = entries.filter(e => e.isDirectory()).map(e => join(dir, e.name))
    return [...(await Promise.all(children.map(below))).flat(), dir]
  }
  const controllers = await readdir(cgroupMount).catch(() => [])
  const roots = [cgroupRoot, ...controllers.map(c => join(c, cgroupRoot))].map(r => join(cgroupMount, r))
  const found = await Promise.all(roots.map(async r => ((await exists(r)) ? await below(r) : [])))
  return found.flat()
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  )
}

/** What runs in a job's cgroup, and what was started from our own files; zfs-fuse is ended after its pool. */
async function ownProcesses(): Promise<readonly number[]> {
  const own = new Set<number>()
  for (const dir of await cgroups()) {
    const text = await readFile(join(dir, 'cgroup.procs'), 'utf8').catch(() => '')
    for (const pid of text.split('\n').filter(Boolean)) own.add(Number(pid))
  }
  const pids = (await readdir('/proc')).filter(name => /^\d+$/.test(name)).map(Number)
  for (const pid of pids) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (command.includes(`${layout.runtime}/containerd`) || command.includes(`${layout.libraries}/`))
      own.add(pid)
  }
  for (const pid of [process.pid, process.ppid]) own.delete(pid)
  return [...own]
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code !== 'ESRCH') throw e
  }
}

/** A process that forks while it is ended is met again by the next look. */
async function endProcesses(): Promise<void> {
  const none = async () => {
    const pids = await ownProcesses()
    for (const pid of pids) kill(pid)
    return pids.length === 0
  }
  await poll(none, { timeoutMs: processEndTimeoutMs, what: 'our processes to end' })
  for (const dir of await cgroups()) await rmdir(dir)
}

async function endFuse(): Promise<void> {
  const pid = Number(await readFile(fusePidFile, 'utf8').catch(() => ''))
  const name = pid > 0 ? await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '') : ''
  if (name.trim() === 'zfs-fuse') kill(pid)
}

/** Deepest first; a mount of a mount goes before what it stands on. */
async function unmountAll(): Promise<void> {
  const mounts = (await readFile('/proc/self/mounts', 'utf8'))
    .split('\n')
    .map(line => line.split(' ')[1] ?? '')
    .filter(path => path.startsWith(`${layout.state}/`) || path.startsWith(`${layout.runtime}/`))
    .reverse()
  for (const path of mounts) await run(['umount', '-l', path])
}

async function destroyPool(): Promise<void> {
  const { stdout } = await run(['zpool', 'list', '-H', '-o', 'name'], { accept: [1] })
  if (stdout.split('\n').includes(pool)) await run(['zpool', 'destroy', '-f', pool], { timeoutMs: 60_000 })
}

async function removeNetwork(): Promise<void> {
  const { stdout } = await run(['ip', '-j', 'link', 'show'])
  const links = (JSON.parse(stdout) as { readonly ifname: string }[]).map(l => l.ifname)
  if (links.includes(bridge)) await run(['ip', 'link', 'del', bridge])
  const tables = (await run(['nft', 'list', 'tables'])).stdout
    .split('\n')
    .filter(line => / flynn$/.test(line))
  for (const table of tables) await run(['nft', 'delete', ...table.split(' ')] as ['nft', ...string[]])
}

async function removeFiles(): Promise<void> {
  if (hasSystemd()) await run(['systemctl', 'disable', '--quiet', 'flynn-host'], { accept: [1] })
  for (const path of [
    layout.unit,
    layout.libraries,
    layout.configuration,
    layout.state,
    layout.runtime,
    layout.logs,
  ]) {
    await rm(path, { recursive: true, force: true })
  }
  for (const name of ['flynn-host', 'flynn', 'flynn-linux-amd64'])
    await rm(join(layout.binaries, name), { force: true })
  if (hasSystemd()) await run(['systemctl', 'daemon-reload'])
}

/** Runs every part even when an earlier one failed, and rejects at the end with all that went wrong. */
export async function remove(progress: Progress): Promise<void> {
  const parts: readonly (readonly [string, () => Promise<void>])[] = [
    ['stop jobs', stopJobs],
    ['stop flynn-host', stopDaemon],
    ['end processes', endProcesses],
    ['unmount', unmountAll],
    ['destroy volumes', destroyPool],
    ['zfs-fuse', endFuse],
    ['network', removeNetwork],
    ['files', removeFiles],
  ]
  const failures: string[] = []
  for (const [label, work] of parts) {
    progress.start(label)
    try {
      await work()
      progress.done(label)
    } catch (e) {
      // A daemon that does not run cannot stop jobs, and a machine without ZFS has no pool: said, not fatal.
      progress.info(label, describeError(e))
      if (label !== 'stop jobs' && label !== 'destroy volumes') failures.push(`${label}: ${describeError(e)}`)
    }
  }
  if (failures.length > 0) throw new Error(failures.join('; '))
}
