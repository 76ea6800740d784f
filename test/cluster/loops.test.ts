import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseLoops } from './loops.ts'

test('loop devices are read with the identity of their backing file', () => {
  const printed = `{
   "loopdevices": [
      {
         "name": "/dev/loop0",
         "back-ino": 1329,
         "back-maj:min": "     254:0  "
      },{
         "name": "/dev/loop12",
         "back-ino": 77,
         "back-maj:min": "       0:41 "
      }
   ]
}
`
  assert.deepEqual(parseLoops(printed), [
    { device: '/dev/loop0', inode: 1329, fileSystem: '254:0' },
    { device: '/dev/loop12', inode: 77, fileSystem: '0:41' },
  ])
})

test('a machine without loop devices prints an empty list or nothing', () => {
  assert.deepEqual(parseLoops('{ "loopdevices": [ ] }'), [])
  assert.deepEqual(parseLoops(''), [])
})
