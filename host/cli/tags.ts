// `flynn-host tags`: show, set and remove the tags of hosts (contract host.md 1.3, 1.4).
import { table } from '../../pkg/table/table.ts'
import { parseTags } from '../tags.ts'
import { type Command, type Context, UsageError } from './command.ts'
import { cliErrors } from './hosts.ts'

async function show(context: Context): Promise<void> {
  const rows = (await context.hosts()).map(h => [
    h.id,
    Object.entries(h.tags)
      .map(([k, v]) => `${k}=${v}`)
      .join(' '),
  ])
  context.stdout.write(table([['HOST', 'TAGS'], ...rows]))
}

async function change(context: Context, id: string, tags: Readonly<Record<string, string>>): Promise<void> {
  const host = (await context.hosts()).find(h => h.id === id)
  if (!host) throw cliErrors.UNKNOWN_HOST({ id })
  await host.client.setTags(tags)
}

export const tagsCommand: Command = {
  name: 'tags',
  summary: 'Show and change the tags of hosts',
  usage: `usage: flynn-host tags
       flynn-host tags set <hostid> <var>=<val>...
       flynn-host tags del <hostid> <var>...

Show the tags of all hosts, or change those of one.

Example:
  flynn-host tags set host1 disk=ssd
`,
  positionals: { min: 0, max: Number.POSITIVE_INFINITY },
  async run({ rest: [verb, id, ...names] }, context) {
    if (verb === undefined) await show(context)
    else if (id === undefined || names.length === 0) throw new UsageError('a host and its tags are missing')
    else if (verb === 'set') for (const name of names) await change(context, id, parseTags(name))
    else if (verb === 'del') await change(context, id, Object.fromEntries(names.map(n => [n, ''])))
    else throw new UsageError(`unknown verb ${verb}`)
    return 0
  },
}
