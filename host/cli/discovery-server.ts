// `flynn-host discovery-server`: the token service, for hosts that shall find each other. The work is in discovery/.
import { type Command, UsageError } from './command.ts'

export const discoveryServerCommand: Command = {
  name: 'discovery-server',
  summary: 'Run a token service by which new hosts find each other',
  usage: '',
  positionals: { min: 0, max: Number.POSITIVE_INFINITY },
  raw: true,
  async run({ raw }, context) {
    const discovery = await import('../../discovery/client.ts')
    if (raw.includes('-h') || raw.includes('--help')) {
      context.stdout.write(discovery.discoveryServerUsage)
      return 0
    }
    try {
      await discovery.runDiscoveryServer(raw)
      return 0
    } catch (e) {
      const code = (e as { code?: unknown }).code
      if (typeof code === 'string' && code.startsWith('ERR_PARSE_ARGS'))
        throw new UsageError((e as Error).message)
      throw e
    }
  },
}
