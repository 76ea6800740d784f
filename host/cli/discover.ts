// `flynn-host discover`: what is registered for services (contract host.md 1.3).
import { DiscoverdClient } from '../../discoverd/client.ts'
import { table } from '../../pkg/table/table.ts'
import { type Command, on } from './command.ts'

export const discoverCommand: Command = {
  name: 'discover',
  summary: 'Show the instances of services',
  usage: `usage: flynn-host discover [--json] <service>...

Show the registered instances of services.

Options:
  --json  instances, leader and metadata as JSON

Example:
  flynn-host discover postgres controller
`,
  options: { json: { type: 'boolean' } },
  positionals: { min: 1, max: Number.POSITIVE_INFINITY },
  async run({ flags, rest }, context) {
    const discoverd = new DiscoverdClient({ servers: context.env['DISCOVERD'] ?? '' })
    try {
      if (on(flags, 'json')) {
        const all = []
        for (const Name of rest) {
          const Leader = (await discoverd.leader(Name)) ?? null
          const Instances = await discoverd.instances(Name)
          const meta = await discoverd.getMeta(Name)
          all.push({ Name, Leader, Instances, Meta: meta ? { Data: meta.data, index: meta.index } : null })
        }
        context.stdout.write(`${JSON.stringify(all, undefined, 2)}\n`)
        return 0
      }
      const rows = [['SERVICE', 'ID', 'ADDR']]
      for (const service of rest)
        for (const i of await discoverd.instances(service)) rows.push([service, i.id, i.addr])
      context.stdout.write(table(rows))
      return 0
    } finally {
      await discoverd.close()
    }
  },
}
