// `flynn-host bootstrap`: brings a cluster up (contract host.md 1.8). The work is in bootstrap/, loaded when needed.
import { type Command, UsageError } from './command.ts'
import { cliErrors } from './hosts.ts'

export const bootstrapCommand: Command = {
  name: 'bootstrap',
  summary: 'Bring a cluster up',
  usage: '',
  positionals: { min: 0, max: Number.POSITIVE_INFINITY },
  raw: true,
  async run({ raw }, context) {
    const bootstrap = await import('../../bootstrap/client.ts')
    if (raw.includes('-h') || raw.includes('--help')) {
      context.stdout.write(bootstrap.bootstrapUsage)
      return 0
    }
    const key = context.authKey()
    if (key === undefined) throw cliErrors.NO_KEY()
    try {
      return await bootstrap.bootstrapCommand(raw, key)
    } catch (e) {
      const code = (e as { code?: unknown }).code
      if (typeof code === 'string' && code.startsWith('ERR_PARSE_ARGS'))
        throw new UsageError((e as Error).message)
      throw e
    }
  },
}
