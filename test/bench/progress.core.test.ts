import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stepSeconds } from './progress.core.ts'

const progress = `   0.0s  ... files
   1.5s  ok  files 13 layers
something else
  12.0s      guestbook: deploying examples/guestbook
  14.5s  ok  guestbook
`

test('a step lasts from one line to another, or from the start', () => {
  const steps = stepSeconds(progress, [
    ['install', undefined, 'ok files'],
    ['deploy', 'guestbook: deploying', 'ok guestbook'],
  ])
  assert.deepEqual(steps, [
    { step: 'install', tookSeconds: 1.5 },
    { step: 'deploy', tookSeconds: 2.5 },
  ])
})

test('a line that is not there is an error, not a zero', () => {
  assert.throws(() => stepSeconds(progress, [['x', undefined, 'ok x']]), /no line "ok x"/)
})
