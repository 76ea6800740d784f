// The tests on real engines and test hosts, one file after the other. Needs root and built images.
// `node test/integration.ts cluster container` runs the named files only.
import { basename } from 'node:path'
import { findTests, runTests } from './runner.ts'

const fileTimeoutMs = 10 * 60_000

const wanted = process.argv.slice(2)
const all = findTests('test/integration')
const nameOf = (file: string) => basename(file, '.test.ts')
const unknown = wanted.filter(name => !all.some(file => nameOf(file) === name))
if (unknown.length > 0) {
  process.stderr.write(
    `no integration test is called ${unknown.join(', ')}; there are: ${all.map(nameOf).join(', ')}\n`,
  )
  process.exitCode = 64
} else {
  const files = wanted.length === 0 ? all : all.filter(file => wanted.includes(nameOf(file)))
  process.exitCode = (await runTests({ files, concurrency: 1, fileTimeoutMs, times: true })) ? 0 : 1
}
