// The jobs of one host over its API: states, events, limits, streams (contract host.md 2, 3, 12).
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { attachFlags, zeroTime } from '../../host/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { jobId } from '../../pkg/ids/ids.ts'
import { createCluster, type TestCluster } from '../cluster/cluster.ts'
import { type BusyboxImage, busyboxImage } from '../fixtures/busybox.ts'
import { collect, isDown, isUp, type TestDaemon, testDaemon, watchEvents } from '../fixtures/flynn-host.ts'

const { stdout, stderr, stdin, logs, stream, initLog } = attachFlags
const app = { 'flynn-controller.app': 'a0000000-0000-4000-8000-000000000001', 'flynn-controller.type': 'web' }
let cluster: TestCluster
let image: BusyboxImage
let daemon: TestDaemon

before(async () => {
  image = await busyboxImage()
  cluster = await createCluster({ hosts: 1, binds: [{ source: image.dir, target: image.dir }] })
  daemon = testDaemon(cluster.host(1), image.mountspec)
  await daemon.start()
})

after(async () => {
  await cluster?.down()
  await image?.remove()
})

async function json(path: string, init?: RequestInit) {
  const res = await daemon.fetch(path, init)
  const body = (await res.json()) as Record<string, unknown>
  return { status: res.status, body }
}

test('the API wants the key, the status does not', async () => {
  const host = cluster.host(1)
  const refused = await host.fetch('/host/jobs', { port: 1113 })
  assert.equal(refused.status, 401)
  assert.equal(refused.headers.get('www-authenticate'), 'Basic realm="flynn-host"')
  assert.equal(((await refused.json()) as { code: string }).code, 'unauthorized')
  const basic = { authorization: `Basic ${Buffer.from(`x:${await daemon.key()}`).toString('base64')}` }
  assert.equal((await host.fetch('/host/jobs', { port: 1113, headers: basic })).status, 200)
  const status = (await (await host.fetch('/host/status', { port: 1113 })).json()) as Record<string, unknown>
  assert.equal(status['id'], 'h1')
  assert.equal(status['url'], `http://${host.address}:1113`)
})

test('a job goes through create, start, stop and cleanup, in this order', async () => {
  const id = jobId('h1')
  const events = watchEvents(daemon.client, id)
  await events.open
  await daemon.run(['sh', '-c', 'sleep 0.2; exit 7'], { id })
  await events.until(e => e.event === 'cleanup')
  assert.deepEqual(events.names(), ['create', 'start', 'stop', 'cleanup'])
  const [created, started, stopped] = events.seen
  assert.equal(created?.job.status, undefined)
  assert.equal(created?.job.started_at, zeroTime)
  assert.equal(started?.job.status, 1)
  assert.ok((started?.job.pid ?? 0) > 0)
  assert.equal(stopped?.job.status, 3)
  assert.equal(stopped?.job.exit_status, 7)
  assert.equal(stopped?.job.pid, undefined)
})

test('a job of a partition that does not exist fails with events create and error', async () => {
  const id = jobId('h1')
  const events = watchEvents(daemon.client, id)
  await events.open
  await daemon.run(['true'], { id, partition: 'nonexistent' })
  const failed = await events.until(e => e.event === 'cleanup')
  assert.deepEqual(events.names(), ['create', 'error', 'cleanup'])
  assert.equal(failed.job.error, 'host: invalid job partition "nonexistent"')
  assert.equal(failed.job.status, 4)
})

test('what cannot start says why and leaves nothing', async () => {
  const volume = await daemon.finish(['true'], {
    config: { volumes: [{ target: '/data', volume: 'absent', writeable: true }] },
  })
  assert.match(volume.error ?? '', /volume absent does not exist/)
  const wrongHash = { ...image.mountspec, id: 'f'.repeat(64), hashes: { sha512_256: 'f'.repeat(64) } }
  const layer = await daemon.finish(['true'], { mountspecs: [wrongHash] })
  assert.match(layer.error ?? '', /does not match its sha512_256 hash/)
  const command = await daemon.finish(['/no/such/program'])
  assert.equal(command.status, 4)
  assert.match(command.error ?? '', /no\/such\/program/)
  const unknown = await daemon.finish(['no-such-program'])
  assert.match(unknown.error ?? '', /not found in \$PATH/)
  const left = await cluster.host(1).run(['ls', '/var/lib/flynn/jobs'])
  for (const { job } of [volume, layer, command]) assert.ok(!left.includes(job.id), left)
})

test('bad requests get the contract errors and store nothing', async () => {
  const before = Object.keys(await daemon.client.jobs()).length
  const put = (id: string, body: unknown) =>
    json(`/host/jobs/${id}`, { method: 'PUT', body: typeof body === 'string' ? body : JSON.stringify(body) })
  assert.deepEqual(await put('h1-x', '{"id":'), {
    status: 400,
    body: {
      code: 'syntax_error',
      message: 'The provided JSON input is invalid',
      retry: false,
      remedy: 'send one well-formed JSON document',
    },
  })
  const none = await put('h1-x', { mountspecs: [] })
  assert.deepEqual([none.status, none.body['message']], [400, 'mountspecs must be set'])
  const type = await put('h1-x', { mountspecs: [image.mountspec], config: { args: 'true' } })
  assert.deepEqual([type.status, type.body['code']], [400, 'validation_error'])
  assert.deepEqual(type.body['detail'], { field: 'config.args' })
  const hostnet = await put('h1-x', { mountspecs: [image.mountspec], config: { host_network: true } })
  assert.equal(hostnet.status, 400)
  const plain = await daemon.fetch('/host/jobs/h1-x', {
    method: 'PUT',
    body: '{}',
    headers: { 'content-type': 'text/plain' },
  })
  assert.equal(((await plain.json()) as { message: string }).message, 'Content-Type must be application/json')
  const path = await put('..%2f..%2fetc', { mountspecs: [image.mountspec] })
  assert.equal(path.status, 400)
  assert.equal((await daemon.fetch('/host/nothing')).status, 404)
  assert.equal(Object.keys(await daemon.client.jobs()).length, before)
})

test('an id is used once, unknown jobs are 404, and only active jobs can be stopped or signalled', async () => {
  const { job } = await daemon.finish(['true'])
  const again = await json(`/host/jobs/${job.id}`, {
    method: 'PUT',
    body: JSON.stringify({ id: job.id, mountspecs: [image.mountspec], config: { args: ['true'] } }),
  })
  assert.deepEqual([again.status, again.body['message']], [409, 'job already exists'])
  const unknown = await json('/host/jobs/h1-unknown')
  assert.deepEqual(
    [unknown.status, unknown.body['code'], unknown.body['message']],
    [404, 'object_not_found', 'host: unknown job'],
  )
  for (const id of [job.id, 'h1-unknown']) {
    const stop = await json(`/host/jobs/${id}`, { method: 'DELETE' })
    assert.deepEqual([stop.status, stop.body['code']], [500, 'unknown_error'])
    const signal = await json(`/host/jobs/${id}/signal/15`, { method: 'PUT' })
    assert.equal(signal.status, 500)
  }
  const bad = await json(`/host/jobs/${job.id}/signal/TERM`, { method: 'PUT' })
  assert.deepEqual([bad.status, bad.body['message']], [400, 'sig must be an integer'])
})

test('of 26 finished jobs of an app the first leaves the list and can still be read', async () => {
  const env = { FLYNN_APP_ID: 'a26' }
  const ids: string[] = []
  for (let n = 0; n < 26; n++) ids.push((await daemon.finish(['true'], { config: { env } })).job.id)
  const [first = '', second = ''] = ids
  const list = await daemon.client.jobs()
  assert.equal(list[first], undefined)
  assert.equal(list[second]?.status, 2)
  assert.equal((await daemon.client.job(first)).status, 2)
})

test('an attachment that is there before its job gets all output and the exit status', async () => {
  const id = jobId('h1')
  const attachment = await daemon.client.attach({ job_id: id, flags: stdout | stderr | stream })
  const result = collect(attachment)
  await daemon.run(['sh', '-c', 'echo out; echo err >&2; exit 1'], { id })
  const { frames, ...rest } = await result
  assert.deepEqual(rest, { stdout: 'out\n', stderr: 'err\n', init: '', exit: 1, error: undefined })
  assert.deepEqual(frames.slice(0, 2), ['waiting', 'success'])
  assert.equal(frames.at(-1), 'exit')
})

test('an attachment to a job that fails gets its error', async () => {
  const id = jobId('h1')
  const attachment = await daemon.client.attach({ job_id: id, flags: stdout | stream })
  const result = collect(attachment)
  await daemon.run(['true'], { id, partition: 'nope' })
  assert.equal((await result).error, 'host: invalid job partition "nope"')
})

test('a finished job is read from its log; a finished terminal job is not running', async () => {
  const plain = await daemon.finish(['sh', '-c', 'for i in 1 2 3; do echo line $i; done'])
  const log = await daemon.output(plain.job.id)
  assert.equal(log.stdout, 'line 1\nline 2\nline 3\n')
  assert.deepEqual(log.frames.slice(-2), ['data', 'data'])
  const tty = await daemon.finish(['true'], { config: { tty: true } })
  const refused = await collect(await daemon.client.attach({ job_id: tty.job.id, flags: stdout | logs }))
  assert.equal(refused.error, 'host: job not running')
})

test('stdin flows into a job, its end too, and what comes back is whole', async () => {
  const id = jobId('h1')
  const attachment = await daemon.client.attach({ job_id: id, flags: stdin | stdout | stderr | stream })
  const result = collect(attachment)
  await daemon.run(['cat'], { id, config: { stdin: true, disable_log: true } })
  const data = Buffer.from('0123456789abcdef\n'.repeat(60_000))
  await attachment.writeStdin(data)
  attachment.closeStdin()
  const { stdout: echoed, exit } = await result
  assert.equal(exit, 0)
  assert.equal(echoed.length, data.length)
  assert.ok(Buffer.from(echoed).equals(data))
})

test('a terminal has the size asked for, takes new sizes, signals and input', async () => {
  const id = jobId('h1')
  const attachment = await daemon.client.attach({
    job_id: id,
    flags: stdin | stdout | stream,
    height: 45,
    width: 123,
  })
  let text = ''
  let exit: number | undefined
  const reading = (async () => {
    for await (const frame of attachment.frames()) {
      if (frame.type === 'data') text += Buffer.from(frame.data).toString()
      if (frame.type === 'exit') exit = frame.status
    }
  })()
  const see = (what: string) =>
    poll(() => text.includes(what), { timeoutMs: 20_000, what: `${what} in ${text}` })
  await daemon.run(['sh'], {
    id,
    config: { tty: true, stdin: true, disable_log: true, env: { PS1: 'ready> ' } },
  })
  await see('ready> ')
  await attachment.writeStdin(Buffer.from('stty size\n'))
  await see('45 123')
  attachment.resize(30, 90)
  await attachment.writeStdin(Buffer.from('stty size\n'))
  await see('30 90')
  await attachment.writeStdin(Buffer.from('trap "echo got usr1" USR1; echo trapped\n'))
  await see('\ntrapped')
  attachment.signal(10)
  await see('got usr1')
  await attachment.writeStdin(Buffer.from('exit 5\n'))
  await reading
  assert.equal(exit, 5)
})

test('a terminal job ends with its attachment', async () => {
  const id = jobId('h1')
  const attachment = await daemon.client.attach({
    job_id: id,
    flags: stdin | stdout | stream,
    height: 24,
    width: 80,
  })
  const reading = collect(attachment, text => text.includes('up'))
  await daemon.run(['sh', '-c', 'echo up; exec sleep 600'], { id, config: { tty: true, stdin: true } })
  await reading
  const ended = await daemon.wait(id, isDown, 'ended')
  assert.equal(ended.exit_status, 143)
})

test('following a log shows history and what comes, until the job ends', async () => {
  const id = await daemon.run(
    ['sh', '-c', 'echo one; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo two'],
    {
      metadata: app,
      config: { mounts: [{ location: '/tmp', target: '/var/tmp', writeable: true }] },
    },
  )
  await poll(async () => (await daemon.output(id)).stdout === 'one\n', {
    timeoutMs: 20_000,
    what: 'the first line',
  })
  const follow = collect(await daemon.client.attach({ job_id: id, flags: stdout | logs | stream }))
  await cluster.host(1).writeFile('/var/tmp/go', '')
  const { stdout: text, exit } = await follow
  assert.equal(text, 'one\ntwo\n')
  assert.equal(exit, 0)
})

test('log files hold octet-counted RFC 5424 records', async () => {
  const { job } = await daemon.finish(['sh', '-c', 'echo hello; echo problem >&2'], { metadata: app })
  const file = await cluster.host(1).readFile(`/var/log/flynn/${app['flynn-controller.app']}.log`)
  // The two streams are two files: which is read first is nobody's promise.
  const stream = (line: string) => / (ID\d) \[/.exec(line)?.[1] ?? ''
  const mine = file
    .split('\n')
    .filter(line => line.includes(job.id))
    .sort((a, b) => (stream(a) < stream(b) ? -1 : 1))
  assert.equal(mine.length, 2)
  for (const [i, [id, text]] of [['ID1', 'hello'] as const, ['ID2', 'problem'] as const].entries()) {
    const pattern = `^(\\d+) (<190>1 \\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{6}Z h1 ${app['flynn-controller.app']} web\\.${job.id} ${id} \\[flynn seq="\\d+"\\] ${text})$`
    const match = new RegExp(pattern).exec(mine[i] ?? '')
    assert.ok(match, mine[i])
    assert.equal(Number(match[1]), match[2]?.length)
  }
})

test('a job without a log takes one attachment at a time', async () => {
  const id = jobId('h1')
  const attach = () => daemon.client.attach({ job_id: id, flags: stdout | stream })
  const first = await attach()
  const reading = collect(first)
  await daemon.run(['sh', '-c', 'echo up; exec sleep 600'], { id, config: { disable_log: true } })
  await daemon.wait(id, isUp, 'started')
  const second = await collect(await attach())
  assert.equal(second.error, 'host: job is attached')
  await daemon.client.stopJob(id)
  assert.deepEqual([(await reading).stdout, (await reading).exit], ['up\n', 143])
})

test('a stop is SIGTERM; the exit status says so', async () => {
  const id = await daemon.run(['sleep', '600'])
  await daemon.wait(id, isUp, 'started')
  await daemon.client.stopJob(id)
  const ended = await daemon.client.job(id)
  assert.deepEqual([ended.status, ended.exit_status], [3, 143])
  const kind = await daemon.run(['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 0.1; done'])
  await daemon.wait(kind, isUp, 'started')
  await daemon.client.stopJob(kind)
  assert.deepEqual([(await daemon.client.job(kind)).status], [2])
})

test('a job that waits for discoverd can be stopped before it ever ran', async () => {
  const id = jobId('h1')
  await daemon.client.addJob({ id, mountspecs: [image.mountspec], config: { args: ['true'] } })
  await daemon.client.stopJob(id)
  const ended = await daemon.client.job(id)
  assert.deepEqual([ended.status, ended.exit_status, ended.started_at], [2, 0, zeroTime])
})

test('twenty jobs started at once all run', async () => {
  const ids = await Promise.all(Array.from({ length: 20 }, () => daemon.run(['sleep', '600'])))
  for (const id of ids) await daemon.wait(id, isUp, 'started')
  await Promise.all(ids.map(id => daemon.client.stopJob(id)))
})

test('limits are visible inside', async () => {
  const version2 =
    (await cluster.host(1).exec(['test', '-e', '/sys/fs/cgroup/cgroup.controllers'])).code === 0
  const script = version2
    ? 'cat /sys/fs/cgroup/memory.max; ulimit -n'
    : 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.shares; ulimit -n'
  const job = await daemon.finish(['sh', '-c', `${script}; df -k /dev/shm | tail -1`], {
    resources: {
      memory: { limit: 256 * 1024 * 1024 },
      cpu: { limit: 750 },
      max_fd: { request: 1024, limit: 1024 },
    },
  })
  const { stdout: text } = await daemon.output(job.job.id)
  const expected = version2 ? ['268435456', '1024'] : ['268435456', '768', '1024']
  assert.deepEqual(text.trim().split('\n').slice(0, expected.length), expected)
  assert.match(text, /\b65536\b/)
})

test('standard streams can be opened by path from subshells', async () => {
  const script = '(echo a > /dev/stdout); (echo b > /dev/stderr); sh -c "echo c > /dev/stdout"'
  const { job } = await daemon.finish(['sh', '-c', script])
  const { stdout: out, stderr: err } = await daemon.output(job.id)
  assert.deepEqual([out, err], ['a\nc\n', 'b\n'])
})

test('lack of memory is told on the init stream and in the error', async () => {
  const job = await daemon.finish(['sh', '-c', 'exec dd if=/dev/zero of=/dev/null bs=200M count=1'], {
    resources: { memory: { limit: 32 * 1024 * 1024 } },
  })
  assert.equal(job.exit_status, 137)
  assert.match(job.error ?? '', /out of memory/)
  const attachment = await daemon.client.attach({ job_id: job.job.id, flags: logs | initLog })
  assert.match(
    (await collect(attachment)).init,
    /FATAL: a container process was killed due to lack of available memory/,
  )
})

test('long lines are split, lines without an end are kept', async () => {
  const script = 'head -c 25000 /dev/zero | tr "\\0" x; echo; printf tail'
  const { job } = await daemon.finish(['sh', '-c', script])
  const { stdout: text } = await daemon.output(job.id)
  assert.deepEqual(
    text.split('\n').map(l => l.length),
    [10_000, 10_000, 5_000, 4, 0],
  )
})
