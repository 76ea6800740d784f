// A place for the engines of one host to run in: own mount, process, network and IPC namespaces with a private /run,
// so that nothing reaches the machine's own engines and everything ends with the test. The test file calls
// `inOwnNamespaces` first: it runs the same file again inside and passes the result on.
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
} from 'node:fs'
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { type HostPaths, hostPaths } from '../../host/paths.ts'
import { run } from '../../pkg/proc/run.ts'

const insideVariable = 'FLYNN_TEST_ENGINES'
const tempDir = '/var/tmp'
/** Names carry the process that made them, and its process namespace, where that number means something. */
const prefix = `engines-${readlinkSync('/proc/self/ns/pid').replaceAll(/\D/g, '')}-`

/** Private places over the machine's: sockets, locks, ZFS caches. Propagation is off, so nothing leaks out. */
const setUp = `
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/zfs
for d in /etc/zfs /var/lib/zfs; do [ -d $d ] && mount -t tmpfs tmpfs $d; done
ip link set lo up
exec tini -s -- "$@"
`

/** Runs the calling test file inside namespaces; returns only there. Needs root. */
export function inOwnNamespaces(file: string): void {
  if (process.env[insideVariable] !== undefined) return
  for (const left of readdirSync(tempDir)) if (left.startsWith(prefix) && isOver(left)) removeTraces(left)
  const name = basename(mkdtempSync(join(tempDir, `${prefix}${process.pid}-`)))
  const unshare = ['--mount', '--pid', '--net', '--ipc', '--uts', '--fork', '--kill-child', '--mount-proc']
  const command = ['sh', '-c', setUp, 'sh', process.execPath, file]
  const { status, signal } = spawnSync(
    'unshare',
    [...unshare, '--propagation', 'private', '--', ...command],
    {
      stdio: 'inherit',
      env: { ...process.env, [insideVariable]: name },
    },
  )
  removeTraces(name)
  process.exit(status ?? (signal === null ? 1 : 128))
}

/** True for what a run left whose process is gone: it was killed before it could clean up. */
function isOver(name: string): boolean {
  return !existsSync(`/proc/${name.slice(prefix.length).split('-')[0]}`)
}

/** Cgroups are not in a namespace of ours: the empty directories go after everything in them has ended. */
function removeTraces(name: string): void {
  const tops = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map(line => line.split(' '))
    .filter(([, , type]) => type === 'cgroup' || type === 'cgroup2')
    .map(([, target = '']) => join(target, name))
  const removeTree = (dir: string) => {
    for (const entry of readdirSync(dir, { withFileTypes: true }))
      if (entry.isDirectory()) removeTree(join(dir, entry.name))
    rmdirSync(dir)
  }
  for (const top of tops) if (existsSync(top)) removeTree(top)
  rmSync(join(tempDir, name), { recursive: true, force: true })
}

/** Directories and names of a host that belongs to this test alone. */
export function enginePaths(): HostPaths {
  const name = process.env[insideVariable]
  if (name === undefined) throw new Error('call inOwnNamespaces first')
  const dir = join(tempDir, name)
  const at = (name: string) => {
    mkdirSync(join(dir, name), { recursive: true })
    return join(dir, name)
  }
  const paths = hostPaths({
    configDir: at('etc'),
    stateDir: at('lib'),
    runDir: '/run/flynn',
    logDir: at('log'),
  })
  return { ...paths, cgroupRoot: `/${name}` }
}

/** A root file system of nothing but busybox, as a directory. */
export async function busyboxTree(dir: string): Promise<string> {
  for (const name of ['bin', 'dev', 'proc', 'sys', 'tmp', 'etc', 'root'])
    await mkdir(join(dir, name), { recursive: true })
  await chmod(join(dir, 'tmp'), 0o1777)
  await writeFile(join(dir, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n')
  await run(['cp', '/bin/busybox', join(dir, 'bin/busybox')])
  const { stdout } = await run(['/bin/busybox', '--list'])
  for (const applet of stdout.trim().split('\n'))
    if (applet !== 'busybox') await symlink('busybox', join(dir, 'bin', applet))
  return dir
}
