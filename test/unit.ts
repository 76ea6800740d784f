// `npm run test:unit`: every test that needs neither root nor engines. Those that do live in the folders named here.
import { availableParallelism } from 'node:os'
import { findTests, runTests } from './runner.ts'

const needMachines = ['test/integration', 'test/loopback', 'test/chaos', 'test/bench']
/** There only the pure parts are tested without machines. */
const pureIn = ['test/chaos', 'test/bench']
/** A thousand simulated worlds take seconds, but minutes on a machine that is busy with much else. */
const fileTimeoutMs = 300_000

const cores = pureIn.flatMap(folder => findTests(folder)).filter(file => file.endsWith('.core.test.ts'))
const files = [...findTests('.', needMachines), ...cores]
const { good, failures } = await runTests({ files, concurrency: availableParallelism(), fileTimeoutMs })
process.stdout.write(failures.join(''))
process.exitCode = good ? 0 : 1
