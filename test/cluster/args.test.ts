import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseCommand, UsageError } from './args.ts'

const command = (line: string) => parseCommand(line.split(' ').filter(Boolean)).command

test('up makes one host unless a number is given', () => {
  assert.deepEqual(command('up'), { verb: 'up', hosts: 1, binds: [], internet: false, fresh: false })
  assert.equal((command('up 3') as { hosts: number }).hosts, 3)
})

test('up refuses what is no number of hosts', () => {
  for (const line of ['up 0', 'up 33', 'up 1.5', 'up many', 'up 1 2'])
    assert.throws(() => command(line), UsageError, line)
})

test('a bind is read-only unless it says rw', () => {
  const up = command('up --bind /a:/b --bind /c:/d:rw')
  assert.deepEqual(up.verb === 'up' && up.binds, [
    { source: '/a', target: '/b', writeable: false },
    { source: '/c', target: '/d', writeable: true },
  ])
  for (const bind of ['a:/b', '/a', '/a:/b:rx']) assert.throws(() => command(`up --bind ${bind}`), UsageError)
})

test('exec hands everything after the dashes to the program', () => {
  assert.deepEqual(command('exec h1 -- ls -l --all -- x'), {
    verb: 'exec',
    host: 'h1',
    argv: ['ls', '-l', '--all', '--', 'x'],
  })
})

test('exec without a program is refused', () => {
  assert.throws(() => command('exec h1'), UsageError)
  assert.throws(() => command('exec -- ls'), UsageError)
})

test('only exec takes a program', () => {
  assert.throws(() => command('kill h1 -- ls'), UsageError)
})

test('cut takes two hosts and a direction', () => {
  assert.deepEqual(command('cut h1 h2 --one-way'), { verb: 'cut', a: 'h1', b: 'h2', oneWay: true })
  assert.throws(() => command('cut h1'), UsageError)
})

test('the cluster is dev unless it is named', () => {
  assert.equal(parseCommand(['list']).cluster, 'dev')
  assert.equal(parseCommand(['list', '--cluster', 'mine']).cluster, 'mine')
  assert.throws(() => parseCommand(['list', '--cluster', '../etc']), UsageError)
})

test('an unknown command or flag is refused, and no command is a call for help', () => {
  assert.throws(() => command('explode'), UsageError)
  assert.throws(() => command('list --loud'), UsageError)
  assert.deepEqual(command(''), { verb: 'help' })
})
