// That `npm test` notices what a test forgets: a check that never fails would be none.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { run } from '../../pkg/proc/run.ts'
import { createCluster } from '../cluster/cluster.ts'
import { leftBehind, takeSnapshot } from '../leftovers.ts'

const testRun = 'leftovers-test'
const look = () => takeSnapshot(process.pid, testRun)

test('a process, mount, loop device, namespace, cgroup, link and table left behind are each named', async () => {
  const dir = await mkdtemp('/var/tmp/leftovers-')
  const name = `fl-${dir.slice(-6).toLowerCase()}`
  const { cgroups } = await look()
  const cgroup = join(cgroups.find(path => path.endsWith('/pids') || path === '/sys/fs/cgroup') ?? '', name)
  const before = await look()
  const child = spawn('sleep', ['1000'], { stdio: 'ignore', detached: true })
  const undo: (() => Promise<unknown>)[] = []
  const make = async (argv: readonly [string, ...string[]], back: readonly [string, ...string[]]) => {
    await run(argv)
    undo.unshift(() => run(back))
  }
  try {
    await make(['mount', '-t', 'tmpfs', name, dir], ['umount', dir])
    await run(['truncate', '-s', '1M', join(dir, 'disk')])
    const loop = (await run(['losetup', '--find', '--show', join(dir, 'disk')])).stdout.trim()
    undo.unshift(() => run(['losetup', '--detach', loop]))
    // The first `ip netns add` of a machine makes this a mount point, and no `del` takes that back.
    if (!before.mounts.includes('/run/netns')) undo.unshift(() => run(['umount', '/run/netns']))
    await make(['ip', 'netns', 'add', name], ['ip', 'netns', 'del', name])
    await make(['ip', 'link', 'add', name, 'type', 'bridge'], ['ip', 'link', 'del', name])
    await make(['nft', 'add', 'table', 'inet', name], ['nft', 'delete', 'table', 'inet', name])
    await mkdir(cgroup)
    undo.unshift(() => rmdir(cgroup))
    const lines = await leftBehind(before, look, 200)
    for (const line of [
      `processes: ${child.pid} sleep`,
      `mounts: ${dir}`,
      `loops: ${loop} ${join(dir, 'disk')}`,
      `namespaces: ${name}`,
      `cgroups: ${cgroup}`,
      `links: ${name}`,
      `tables: table inet ${name}`,
    ])
      assert.ok(lines.includes(line), `${line} in\n${lines.join('\n')}`)
  } finally {
    child.kill('SIGKILL')
    for (const back of undo) await back()
    await rm(dir, { recursive: true })
  }
})

test('a test cluster counts in the run that made it, and is passed over in any other', async () => {
  const suiteRun = process.env['FLYNN_TEST_RUN']
  process.env['FLYNN_TEST_RUN'] = testRun
  try {
    await using cluster = await createCluster({ name: 'leftovers-test', hosts: 1 })
    const cgroupsSeen = async (byRun: string) =>
      (await takeSnapshot(process.pid, byRun)).cgroups.filter(path => path.includes(`/${cluster.name}`))
    assert.notDeepEqual(await cgroupsSeen(testRun), [])
    assert.deepEqual(await cgroupsSeen('another run'), [])
  } finally {
    if (suiteRun === undefined) delete process.env['FLYNN_TEST_RUN']
    else process.env['FLYNN_TEST_RUN'] = suiteRun
  }
})
