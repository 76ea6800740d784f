import assert from 'node:assert/strict'
import { test } from 'node:test'
import { configErrors } from './config.ts'
import { engineErrors } from './container/errors.ts'
import { exitStatusOf } from './exit.ts'
import { joinErrors } from './join.ts'
import { removalErrors } from './removal.ts'
import { operatorNeededStatus } from './types.ts'

test('a start that only an operator can mend has an exit status of its own', () => {
  const errors = [
    removalErrors.REMOVED({ id: 'h3', since: '' }),
    joinErrors.NO_JOIN_KEY({ peers: 'h1' }),
    joinErrors.WRONG_KEY({ peer: 'h1' }),
    joinErrors.ID_TAKEN({ id: 'h3', address: '192.0.2.1' }),
    configErrors.PARTITIONS({ text: 'x', reason: 'y' }),
    configErrors.UNSUPPORTED({ flag: '--backend', value: 'x', remedy: 'y' }),
  ]
  assert.deepEqual(
    errors.map(exitStatusOf),
    errors.map(() => operatorNeededStatus),
  )
})

test('a start that may go well later ends with 1', () => {
  const errors = [
    joinErrors.VERSION({ host: 'h1', wanted: '2', found: '1' }),
    joinErrors.NOT_PROVED({ wrong: 'h1', silent: 'h2' }),
    configErrors.NO_ADDRESS(),
    configErrors.HOST_ID({ id: '(none)' }),
    engineErrors.POOL({ pool: 'p', reason: 'it is FAULTED' }),
    Object.assign(new Error('listen'), { code: 'EADDRINUSE' }),
    'anything else',
  ]
  assert.deepEqual(
    errors.map(exitStatusOf),
    errors.map(() => 1),
  )
})
