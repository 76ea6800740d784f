// The token service as a process of its own; `flynn-host discovery-server` is the same.
import { describeError } from '../pkg/errors/errors.ts'
import { runDiscoveryServer } from './serve.ts'

try {
  await runDiscoveryServer(process.argv.slice(2))
} catch (e) {
  process.stderr.write(`${describeError(e)}\n`)
  process.exitCode = 1
}
