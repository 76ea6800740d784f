// `flynn-host stop` (contract host.md 1.4).
import { describeError } from '../../pkg/errors/errors.ts'
import type { Command } from './command.ts'
import { hostForJob } from './hosts.ts'

export const stopCommand: Command = {
  name: 'stop',
  summary: 'Stop jobs',
  usage: `usage: flynn-host stop ID...

Stop jobs: SIGTERM, and SIGKILL for those that have not ended after 30 seconds.

Example:
  flynn-host stop host1-8b0d2b4f-3a51-4bb5-9a53-0d3ed0b2a1c4
`,
  positionals: { min: 1, max: Number.POSITIVE_INFINITY },
  async run({ rest }, context) {
    let failed = false
    for (const id of rest) {
      try {
        await (await hostForJob(context, id)).client.stopJob(id)
        context.stdout.write(`${id} stopped\n`)
      } catch (e) {
        failed = true
        context.stdout.write(`could not stop job ${id}: ${describeError(e)}\n`)
      }
    }
    return failed ? 1 : 0
  },
}
