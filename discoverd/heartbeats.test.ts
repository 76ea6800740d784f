import assert from 'node:assert/strict'
import { test } from 'node:test'
import { poll } from '../pkg/clock/clock.ts'
import { FlynnError } from '../pkg/errors/errors.ts'
import { type Beating, Heartbeats, heartbeatsPerRequestMax, type SendHeartbeats } from './heartbeats.ts'

const deadline = { timeoutMs: 5_000, intervalMs: 1 }

/** One that counts what it is asked for by itself. */
function beating(service: string, puts: string[], put = async () => {}): Beating {
  return {
    service,
    instance: () => ({ id: service, addr: '10.0.0.1:80', proto: 'tcp' }),
    put: () => {
      puts.push(service)
      return put()
    },
    log: undefined,
  }
}

function sending(answer: (services: readonly string[]) => ReturnType<SendHeartbeats>) {
  const requests: string[][] = []
  const send: SendHeartbeats = beats => {
    const services = beats.map(b => b.service)
    requests.push(services)
    return answer(services)
  }
  return { requests, send }
}

const allWell = async (services: readonly string[]) => services.map(() => null)

test('many go in one request, one goes by itself, and none when all have ended', async () => {
  const { requests, send } = sending(allWell)
  const beats = new Heartbeats(send, () => 5)
  const puts: string[] = []
  const ends = ['a', 'b', 'c'].map(service => beats.add(beating(service, puts)))
  await poll(() => requests.length >= 2, { ...deadline, what: 'two rounds' })
  assert.deepEqual([requests[0], requests[1], puts], [['a', 'b', 'c'], ['a', 'b', 'c'], []])
  await ends[0]?.()
  await ends[2]?.()
  const before = requests.length
  await poll(() => puts.length >= 2, { ...deadline, what: 'two of the one that is left' })
  assert.deepEqual([requests.length, puts.slice(0, 2)], [before, ['b', 'b']])
  await ends[1]?.()
  const told = puts.length
  const until = Date.now() + 50
  await poll(() => Date.now() > until, { ...deadline, what: 'ten rounds' })
  assert.equal(puts.length, told)
  const end = beats.add(beating('later', puts))
  await poll(() => puts.at(-1) === 'later', { ...deadline, what: 'one that came later' })
  await end()
})

test('a request names no more than it may', async () => {
  const { requests, send } = sending(allWell)
  const beats = new Heartbeats(send, () => 5)
  const ends = Array.from({ length: heartbeatsPerRequestMax + 2 }, (_, n) => beats.add(beating(`s${n}`, [])))
  await poll(() => requests.length >= 2, { ...deadline, what: 'a round' })
  assert.deepEqual(
    requests.slice(0, 2).map(r => r.length),
    [heartbeatsPerRequestMax, 2],
  )
  await Promise.all(ends.map(end => end()))
})

test('whose service is missing is put by itself, what fails otherwise is soon tried again', async () => {
  const answers = { a: null, b: { code: 'object_not_found', message: '' }, c: { code: 'x', message: '' } }
  const { requests, send } = sending(async services => services.map(s => answers[s as 'a' | 'b' | 'c']))
  const pauses: boolean[] = []
  const beats = new Heartbeats(send, failing => {
    pauses.push(failing)
    return 5
  })
  const puts: string[] = []
  const ends = ['a', 'b', 'c'].map(service => beats.add(beating(service, puts)))
  await poll(() => requests.length >= 3, { ...deadline, what: 'three rounds' })
  assert.deepEqual(pauses.slice(0, 3), [false, true, true])
  assert.deepEqual(puts.slice(0, 2), ['b', 'b'])
  await Promise.all(ends.map(end => end()))
})

test('a discoverd that knows no such request gets one for each', async () => {
  const { send } = sending(async () => {
    throw new FlynnError({ code: 'not_found', status: 404, message: 'no such path' })
  })
  const pauses: boolean[] = []
  const beats = new Heartbeats(send, failing => {
    pauses.push(failing)
    return 5
  })
  const puts: string[] = []
  const ends = ['a', 'b'].map(service => beats.add(beating(service, puts)))
  await poll(() => pauses.length >= 3, { ...deadline, what: 'two rounds' })
  assert.deepEqual(
    [puts.slice(0, 4), pauses.slice(0, 3)],
    [
      ['a', 'b', 'a', 'b'],
      [false, false, false],
    ],
  )
  await Promise.all(ends.map(end => end()))
})

test('an end waits for the request that names it', async () => {
  const answered = Promise.withResolvers<void>()
  const { requests, send } = sending(async services => {
    await answered.promise
    return allWell(services)
  })
  const beats = new Heartbeats(send, () => 5)
  const ends = ['a', 'b'].map(service => beats.add(beating(service, [])))
  await poll(() => requests.length === 1, { ...deadline, what: 'a request' })
  let ended = false
  const ending = ends[0]?.().then(() => {
    ended = true
  })
  await new Promise(setImmediate)
  assert.equal(ended, false)
  answered.resolve()
  await ending
  await ends[1]?.()
})

test('a request that does not end is broken off for one that ends, and the others are soon told again', async () => {
  const { requests, send } = sending(allWell)
  const broken: unknown[] = []
  const beats = new Heartbeats(
    async (list, signal) => {
      if (requests.length > 0) return send(list, signal)
      await send(list, signal)
      const aborted = new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason)),
      )
      await aborted.catch((e: unknown) => broken.push(e))
      throw signal.reason
    },
    () => 5,
  )
  const ends = ['a', 'b', 'c'].map(service => beats.add(beating(service, [])))
  await poll(() => requests.length === 1, { ...deadline, what: 'a request' })
  await ends[0]?.()
  assert.equal(broken.length, 1)
  await poll(() => requests.length === 2, { ...deadline, what: 'the next request' })
  assert.deepEqual(requests[1], ['b', 'c'])
  await Promise.all(ends.map(end => end()))
})
