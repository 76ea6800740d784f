// `flynn-host signal` (contract host.md 1.4).
import { type Command, UsageError } from './command.ts'
import { hostForJob } from './hosts.ts'

export const signalCommand: Command = {
  name: 'signal',
  summary: 'Send a signal to a job',
  usage: `usage: flynn-host signal ID SIGNAL

Send a signal, given by its number, to a job's main process.

Example:
  flynn-host signal host1-8b0d2b4f-3a51-4bb5-9a53-0d3ed0b2a1c4 1
`,
  positionals: { min: 2, max: 2 },
  async run({ rest: [id = '', signal = ''] }, context) {
    if (!/^\d{1,3}$/.test(signal)) throw new UsageError('SIGNAL must be a number, such as 15')
    await (await hostForJob(context, id)).client.signalJob(id, Number(signal))
    context.stdout.write(`sent signal ${signal} to ${id} successfully\n`)
    return 0
  },
}
