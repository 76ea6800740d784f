// Switches one test host on and off. On: cgroups, namespaces, root (boot.sh), cable. Off: cable first, then PID 1 and
// with it every process, then what the kernel does not give back by itself. Called by host.ts and sweep.ts.
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, open, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { poll } from '../../pkg/clock/clock.ts'
import { run, systemPath } from '../../pkg/proc/run.ts'
import {
  belongs,
  bootArguments,
  killGroup,
  machineLayout,
  makeGroup,
  namespaceFiles,
  removeGroup,
  setFrozen,
  settle,
} from './cgroups.ts'
import { freeLoops } from './loops.ts'
import { gatewayAddress, hostAddress, hostCgroup, hostDir, hostName } from './names.ts'
import { plugIn, unplug } from './network.ts'
import type { ClusterState } from './state.ts'

const bootTimeoutMs = 20_000
const offTimeoutMs = 10_000

/** Directories below /var, with - for /, that lie on the machine's file system: no overlay, so overlays may use them. */
const disks = ['lib-containerd', 'lib-flynn', 'lib-zfs', 'log']
const checkout = join(import.meta.dirname, '..', '..')

/** PID 1 of the host as the machine knows it; undefined while the host is off. */
export function powerPid(cluster: string, host: string): number | undefined {
  const file = join(hostDir(cluster, host), 'pid')
  if (!existsSync(file)) return undefined
  const pid = Number(readFileSync(file, 'utf8'))
  return belongs(pid, hostCgroup(cluster, host)) ? pid : undefined
}

/** Rejects, with everything taken back, when the host does not come up. */
export async function powerOn(state: ClusterState, index: number): Promise<void> {
  const host = hostName(index)
  const layout = machineLayout()
  const group = hostCgroup(state.name, host)
  try {
    await makeGroup(layout, group)
    const dir = hostDir(state.name, host)
    const fresh = !existsSync(join(dir, 'upper'))
    await layOut(dir, state)
    if (fresh && state.diskBytes !== undefined) await makeDisk(dir, state.diskBytes)
    await boot(state, host, fresh)
    await settle(layout, group)
    const pid = powerPid(state.name, host)
    if (pid === undefined) throw new Error(`host ${host} ended while it booted`)
    await plugIn(state.subnet, index, pid)
  } catch (cause) {
    await powerOff(state, index)
    throw new Error(`host ${host} of test cluster ${state.name} does not come up`, { cause })
  }
}

async function layOut(dir: string, state: ClusterState): Promise<void> {
  for (const part of ['upper', 'work', 'root', ...disks.map(d => `disk/${d}`)])
    await mkdir(join(dir, part), { recursive: true })
  const names = Array.from(
    { length: state.hosts },
    (_, i) => `${hostAddress(state.subnet, i + 1)} ${hostName(i + 1)}`,
  )
  const hosts = [
    '127.0.0.1 localhost',
    '::1 localhost ip6-localhost',
    `${gatewayAddress(state.subnet)} machine`,
    ...names,
  ]
  await writeFile(join(dir, 'hosts'), `${hosts.join('\n')}\n`)
  await writeFile(join(dir, 'resolv.conf'), state.internet ? await machineResolvers() : '')
  await rm(join(dir, 'pid'), { force: true })
}

/** boot.sh mounts it; a sparse file, which takes room on this machine only as it fills. */
async function makeDisk(dir: string, bytes: number): Promise<void> {
  const file = join(dir, 'disk.img')
  await writeFile(file, '')
  await truncate(file, bytes)
  // No blocks are kept for root: on these hosts everybody is root, and full is to mean full.
  await run(['mkfs.ext4', '-q', '-m', '0', file])
}

/** Where systemd-resolved listens on 127.0.0.53 its upstream servers are named in a second file. */
async function machineResolvers(): Promise<string> {
  const usual = await readFile('/etc/resolv.conf', 'utf8')
  const upstream = '/run/systemd/resolve/resolv.conf'
  return usual.includes('127.0.0.53') && existsSync(upstream) ? readFile(upstream, 'utf8') : usual
}

async function boot(state: ClusterState, host: string, fresh: boolean): Promise<void> {
  const layout = machineLayout()
  const dir = hostDir(state.name, host)
  const files = namespaceFiles(layout, hostCgroup(state.name, host))
  const namespaces = ['--cgroup', '--mount', '--uts', '--ipc', '--net', '--pid', '--fork']
  const binds = state.binds.flatMap(b => [b.source, b.target, b.writeable ? 'rw' : 'ro'])
  const argv = [
    ...[join(import.meta.dirname, 'join.sh'), String(files.length), ...files],
    ...['unshare', ...namespaces, '--propagation', 'private', '--'],
    ...['sh', join(import.meta.dirname, 'boot.sh'), dir, host, fresh ? '1' : '0', checkout],
    ...[...bootArguments(layout), ...binds],
  ]
  const logFile = join(dir, 'boot.log')
  const log = await open(logFile, 'w')
  // Detached and in its own session: a Ctrl-C at the test's terminal must not reach the hosts.
  const child = spawn('sh', argv, {
    detached: true,
    stdio: ['ignore', log.fd, log.fd],
    env: { PATH: systemPath, HOME: '/root', LC_ALL: 'C', ...testRunMark() },
  })
  let ended = false
  child.once('error', () => {
    ended = true
  })
  child.once('exit', () => {
    ended = true
  })
  child.unref()
  await log.close()
  const ready = () => {
    const pid = powerPid(state.name, host)
    return pid !== undefined && readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'tini'
  }
  await poll(() => ended || ready(), { timeoutMs: bootTimeoutMs, intervalMs: 10, what: `${host} to boot` })
  if (ended) throw new Error(`the boot of ${host} failed: ${(await readFile(logFile, 'utf8')).trim()}`)
}

/** Marks the processes of one run of the test suite, see test/leftovers.ts. */
function testRunMark(): Record<string, string> {
  const mark = process.env['FLYNN_TEST_RUN']
  return mark === undefined ? {} : { FLYNN_TEST_RUN: mark }
}

/** Safe on a host that is off already. Answers when its processes, loop devices and cgroups are gone. */
export async function powerOff(state: Pick<ClusterState, 'name' | 'subnet'>, index: number): Promise<void> {
  const host = hostName(index)
  const layout = machineLayout()
  const group = hostCgroup(state.name, host)
  await unplug(state.name, state.subnet, index)
  const pid = powerPid(state.name, host)
  if (pid !== undefined) {
    process.kill(pid, 'SIGKILL')
    // The kernel keeps a kill for a frozen process until it is thawed.
    await setFrozen(layout, group, false)
    await poll(() => powerPid(state.name, host) === undefined, {
      timeoutMs: offTimeoutMs,
      intervalMs: 5,
      what: `PID 1 of ${host} to end`,
    })
  }
  await killGroup(layout, group)
  await freeLoops(hostDir(state.name, host))
  await removeGroup(layout, group)
}
