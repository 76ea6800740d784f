import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { withTimerSlack } from './timer-slack.ts'

const slackOf = () => spawnSync('/bin/cat', ['/proc/self/timerslack_ns'], { encoding: 'utf8' }).stdout.trim()

test('a child has the slack that it is started with, and this process keeps its own', () => {
  const own = readFileSync('/proc/self/timerslack_ns', 'utf8')
  assert.equal(withTimerSlack(1_000_000, slackOf), '1000000')
  assert.throws(() =>
    withTimerSlack(1_000_000, () => {
      throw new Error('not started')
    }),
  )
  assert.equal(readFileSync('/proc/self/timerslack_ns', 'utf8'), own)
  assert.equal(slackOf(), own.trim())
  assert.equal(withTimerSlack(undefined, slackOf), own.trim())
})
