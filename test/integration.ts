// The tests on real engines and test hosts. Needs root and built images. Two lanes side by side, one file after the other in
// each: those that boot test hosts, and those whose engines are processes on loopback. Either waits much and computes little.
// `node test/integration.ts cluster etcd` runs the named files only.
import { basename } from 'node:path'
import { findTests, runTests } from './runner.ts'

/** On a slow machine the longest file takes 8 minutes. */
const fileTimeoutMs = 15 * 60_000

const wanted = process.argv.slice(2)
const lanes = ['test/integration', 'test/loopback'].map(folder => findTests(folder))
const nameOf = (file: string) => basename(file, '.test.ts')
const names = lanes.flat().map(nameOf)
const unknown = wanted.filter(name => !names.includes(name))
if (unknown.length > 0) {
  process.stderr.write(
    `no integration test is called ${unknown.join(', ')}; there are: ${names.sort().join(', ')}\n`,
  )
  process.exitCode = 64
} else {
  const chosen = lanes.map(files =>
    files.filter(file => wanted.length === 0 || wanted.includes(nameOf(file))),
  )
  const results = await Promise.all(
    chosen
      .filter(files => files.length > 0)
      .map(files => runTests({ files, concurrency: 1, fileTimeoutMs, times: true })),
  )
  // The lane that ended first told its failures long ago.
  process.stdout.write(results.flatMap(({ failures }) => failures).join(''))
  process.exitCode = results.every(({ good }) => good) ? 0 : 1
}
