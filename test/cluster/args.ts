// The command line of `npm run hosts`, parsed into one value. No effects; main.ts carries it out.
import { parseArgs } from 'node:util'
import { clusterName, hostsMax } from './names.ts'
import type { Bind } from './types.ts'

export type Command =
  | {
      readonly verb: 'up'
      readonly hosts: number
      readonly binds: readonly Bind[]
      readonly internet: boolean
      readonly fresh: boolean
    }
  | { readonly verb: 'list' | 'heal' | 'help' }
  | { readonly verb: 'down'; readonly all: boolean }
  | { readonly verb: 'exec'; readonly host: string; readonly argv: readonly string[] }
  | { readonly verb: HostVerb; readonly host: string }
  | { readonly verb: 'cut'; readonly a: string; readonly b: string; readonly oneWay: boolean }

export const hostVerbs = ['kill', 'reboot', 'freeze', 'thaw'] as const
export type HostVerb = (typeof hostVerbs)[number]

export type CommandLine = { readonly cluster: string; readonly command: Command }

export class UsageError extends Error {}

export const defaultCluster = 'dev'

export const usage = `Usage: npm run hosts -- COMMAND [--cluster NAME]

Test hosts: machines of their own on this machine. They stay until \`down\`.

  up [N]                   make N hosts (1), called h1, h2 ...
     --internet            let them reach the outside
     --bind SRC:DST[:rw]   show a directory of this machine inside; may be repeated
     --fresh               remove a cluster of the same name first
  list                     all clusters and their hosts
  exec HOST -- PROGRAM...  run a program in a host, with this terminal
  kill HOST                pull the plug
  reboot HOST              kill it if it is up, then boot it
  freeze HOST, thaw HOST   stop every process of a host, and let them go on
  cut A B [--one-way]      drop what A and B send each other, or only what A sends to B
  heal                     end every cut
  down [--all]             remove the cluster, or all clusters of this machine

The cluster is called "${defaultCluster}" unless --cluster says otherwise.
`

/** Throws UsageError with a sentence for the user. */
export function parseCommand(args: readonly string[]): CommandLine {
  const split = args.indexOf('--')
  const own = split === -1 ? args : args.slice(0, split)
  const program = split === -1 ? [] : args.slice(split + 1)
  const { values, positionals } = parse(own)
  const [verb = 'help', ...rest] = values.help ? ['help'] : positionals
  const cluster = usable(() => clusterName(values.cluster ?? defaultCluster))
  const command = toCommand(verb, rest, values, program)
  if (program.length > 0 && command.verb !== 'exec') throw new UsageError(`${verb} takes no program`)
  return { cluster, command }
}

type Values = ReturnType<typeof parse>['values']

function parse(args: readonly string[]) {
  return usable(() =>
    parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        cluster: { type: 'string' },
        internet: { type: 'boolean' },
        fresh: { type: 'boolean' },
        bind: { type: 'string', multiple: true },
        'one-way': { type: 'boolean' },
        all: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    }),
  )
}

function toCommand(
  verb: string,
  rest: readonly string[],
  values: Values,
  program: readonly string[],
): Command {
  const take = (count: number, what: string) => {
    if (rest.length !== count) throw new UsageError(`${verb} takes ${what}`)
  }
  if (isHostVerb(verb)) {
    take(1, 'one host')
    return { verb, host: rest[0] ?? '' }
  }
  switch (verb) {
    case 'up': {
      if (rest.length > 1) throw new UsageError('up takes one number')
      const hosts = Number(rest[0] ?? '1')
      if (!Number.isInteger(hosts) || hosts < 1 || hosts > hostsMax)
        throw new UsageError(`up takes a number from 1 to ${hostsMax}, not "${rest[0]}"`)
      const binds = (values.bind ?? []).map(parseBind)
      return { verb, hosts, binds, internet: values.internet ?? false, fresh: values.fresh ?? false }
    }
    case 'list':
    case 'heal':
    case 'help':
      take(0, 'no arguments')
      return { verb }
    case 'down':
      take(0, 'no arguments')
      return { verb, all: values.all ?? false }
    case 'exec':
      take(1, 'one host, then -- and a program')
      if (program.length === 0) throw new UsageError('exec needs a program after --')
      return { verb, host: rest[0] ?? '', argv: program }
    case 'cut':
      take(2, 'two hosts')
      return { verb, a: rest[0] ?? '', b: rest[1] ?? '', oneWay: values['one-way'] ?? false }
    default:
      throw new UsageError(`there is no command "${verb}"`)
  }
}

const isHostVerb = (verb: string): verb is HostVerb => (hostVerbs as readonly string[]).includes(verb)

function parseBind(text: string): Bind {
  const match = /^(\/[^:]*):(\/[^:]*)(?::(ro|rw))?$/.exec(text)
  if (!match) throw new UsageError(`--bind takes /SOURCE:/TARGET or /SOURCE:/TARGET:rw, not "${text}"`)
  return { source: match[1] ?? '', target: match[2] ?? '', writeable: match[3] === 'rw' }
}

function usable<T>(work: () => T): T {
  try {
    return work()
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message : String(cause), { cause })
  }
}
