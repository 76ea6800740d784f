// The output of jobs when the disk that it goes to has no room for a while.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { poll } from '../../pkg/clock/clock.ts'
import { createCluster, type TestCluster, type TestHost } from '../cluster/cluster.ts'
import { type BusyboxImage, busyboxImage } from '../fixtures/busybox.ts'
import { isDown, isUp, type TestDaemon, testDaemon } from '../fixtures/flynn-host.ts'

const patience = { timeoutMs: 90_000 }
const jobsDir = '/var/lib/flynn/jobs'
let cluster: TestCluster
let host: TestHost
let image: BusyboxImage
let daemon: TestDaemon

before(async () => {
  image = await busyboxImage()
  cluster = await createCluster({ hosts: 1, binds: [{ source: image.dir, target: image.dir }] })
  host = cluster.host(1)
  await host.run(['mkdir', '-p', jobsDir])
  await host.run(['mount', '-t', 'tmpfs', '-o', 'size=4m,mode=711', 'jobs', jobsDir])
  daemon = testDaemon(host, image.mountspec)
  await daemon.start()
})

after(async () => {
  await cluster?.down()
  await image?.remove()
})

const fill = `dd if=/dev/zero of=${jobsDir}/filler bs=64k 2>/dev/null; dd if=/dev/zero of=${jobsDir}/filler2 bs=1 2>/dev/null; true`

/** Says long lines, so that a block is soon full, until it is told to say much, on both streams, and to end. */
const program = `
while [ ! -e /much ]; do echo quiet ${'.'.repeat(1000)}; echo quiet ${'.'.repeat(1000)} >&2; sleep 0.2; done
i=0
while [ $i -lt 8000 ]; do echo "loud $i 0123456789012345678901234567890123456789"; echo "loud $i 0123456789012345678901234567890123456789" >&2; i=$((i+1)); done
echo last; echo last >&2
exit 7
`

test('a job whose output the disk did not take for a while goes on, and so does its log, also with a new daemon', async () => {
  const metadata = { 'flynn-controller.app': 'loud' }
  const id = await daemon.run(['sh', '-c', program], { metadata })
  const { pid } = await daemon.wait(id, isUp)
  const log = async () => (await host.exec(['cat', '/var/log/flynn/loud.log'])).stdout
  await poll(async () => (await log()).includes('quiet'), { ...patience, what: 'the first lines' })
  await host.run(['sh', '-c', fill])
  await poll(async () => !(await shimWrites(id)), { ...patience, what: 'the shim to give up' })
  await host.run(['sh', '-c', `rm ${jobsDir}/filler*`])
  await daemon.kill()
  await daemon.start()
  await host.run(['touch', `/proc/${pid}/root/much`])
  const ended = await daemon.wait(id, isDown)
  assert.equal(ended.exit_status, 7)
  await poll(async () => ((await log()).match(/ last$/gm) ?? []).length === 2, {
    ...patience,
    what: 'the last line of both streams',
  })
})

/** Whether anybody but the daemon has the job's output open. */
async function shimWrites(id: string): Promise<boolean> {
  const script = `for p in $(pgrep -f "containerd-shim.*${id}"); do ls -l /proc/$p/fd; done`
  return (await host.exec(['sh', '-c', script])).stdout.includes(`${id}/std`)
}
