// `flynn cluster`: the clusters of this person, and what belongs to a whole cluster (contract cli.md 8.8).
import { table } from '../../pkg/table/table.ts'
import { auditLog, auditOptions } from '../audit-log.ts'
import type { Command } from '../command.ts'
import { addCluster, type Cluster, saveConfig } from '../config.ts'
import { type CommandContext, clientFor } from '../context.ts'
import { errors } from '../errors.ts'
import { forgetGitAccess, setUpGitAccess } from '../git-access.ts'
import { parse, splitAction, UnknownAction } from '../usage.ts'

const orNone = (text: string | undefined) => text || '(none)'

/** Without its key: what is printed gets pasted. */
function shown(cluster: Cluster, defaultName: string) {
  const { Key: _key, ...rest } = cluster
  return { ...rest, default: cluster.Name === defaultName }
}

async function list(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 0 })
  const config = await context.config()
  const rows = config.clusters.map(c => [
    c.Name,
    orNone(c.ControllerURL),
    orNone(c.GitURL),
    orNone(c.ImageURL),
    ...(c.Name === config.default ? ['(default)'] : []),
  ])
  const value = config.clusters.map(c => shown(c, config.default))
  context.print(args, value, table([['NAME', 'CONTROLLER URL', 'GIT URL', 'IMAGE URL'], ...rows]))
}

const addOptions = {
  force: { type: 'boolean', short: 'f' },
  default: { type: 'boolean', short: 'd' },
  'git-url': { type: 'string' },
  'no-git': { type: 'boolean' },
  'image-url': { type: 'string' },
  docker: { type: 'boolean' },
  'docker-push-url': { type: 'string' },
  'tls-pin': { type: 'string', short: 'p' },
} as const

function clusterOf(args: ReturnType<typeof parseAdd>): Cluster {
  const [name = '', domainText = '', key = ''] = args.rest
  const domain = domainText.replace(/^https:\/\/controller\./, '')
  const pin = args.text('tls-pin')
  const push = args.text('docker-push-url') ?? (args.flag('docker') ? `https://docker.${domain}` : undefined)
  return {
    Name: name,
    Key: key,
    ...(pin ? { TLSPin: pin } : {}),
    ControllerURL: `https://controller.${domain}`,
    GitURL: args.flag('no-git') ? '' : (args.text('git-url') ?? `https://git.${domain}`),
    ImageURL: args.text('image-url') ?? `https://images.${domain}`,
    ...(push ? { DockerPushURL: push } : {}),
  }
}

const parseAdd = (argv: readonly string[]) => parse(argv, { min: 3, max: 3, options: addOptions })

async function add(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parseAdd(argv)
  const cluster = clusterOf(args)
  const options = { force: args.flag('force'), makeDefault: args.flag('default') }
  const config = addCluster(await context.config(), cluster, options, context.configPath)
  // The configuration is written last: a cluster that does not answer leaves nothing behind.
  const client = await clientFor(cluster)
  if (cluster.GitURL) await setUpGitAccess(cluster, await client.caCert())
  await saveConfig(context.configPath, config)
  const suffix = config.default === cluster.Name ? ' and set as default' : ''
  context.done(args, shown(cluster, config.default), `Cluster "${cluster.Name}" added${suffix}.`)
}

async function remove(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 1, max: 1 })
  const [name = ''] = args.rest
  const config = await context.config()
  const gone = config.clusters.find(c => c.Name === name)
  if (!gone) return
  const clusters = config.clusters.filter(c => c !== gone)
  const wasDefault = config.default === name
  const next = clusters[0]
  const defaultName = wasDefault ? (next?.Name ?? '') : config.default
  await saveConfig(context.configPath, { default: defaultName, clusters })
  if (gone.GitURL) await forgetGitAccess(gone.GitURL)
  const suffix = wasDefault && next ? ` and "${next.Name}" is now the default cluster` : ''
  context.done(args, { removed: name, default: defaultName }, `Cluster "${name}" removed${suffix}.`)
}

async function setDefault(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 1 })
  const [name] = args.rest
  const config = await context.config()
  if (name === undefined) {
    const cluster = config.clusters.find(c => c.Name === config.default)
    if (!cluster) throw errors.NO_CLUSTERS()
    const row = [cluster.Name, cluster.ControllerURL, '(default)']
    context.print(args, shown(cluster, config.default), table([['NAME', 'URL'], row]))
    return
  }
  const cluster = config.clusters.find(c => c.Name === name)
  if (!cluster) throw errors.NO_SUCH_CLUSTER({ name })
  await saveConfig(context.configPath, { ...config, default: name })
  context.done(args, shown(cluster, name), `"${name}" is now the default cluster.`)
}

const groupOptions = { ...addOptions, ...auditOptions, format: { type: 'string' } } as const

export const cluster: Command = {
  usage: `usage: flynn cluster [--json]
       flynn cluster add [-f] [-d] [--git-url <url>] [--no-git] [--image-url <url>] [--docker] [--docker-push-url <url>] [-p <pin>] [--json] <name> <domain> <key>
       flynn cluster remove [--json] <name>
       flynn cluster default [--json] [<name>]
       flynn cluster migrate-domain [-y] [--json] <domain>
       flynn cluster log-sink [--json]
       flynn cluster log-sink add syslog [--use-ids] [--insecure] [--format <format>] [--json] <url> [<prefix>]
       flynn cluster log-sink remove [--json] <id>
       flynn cluster audit-log [-n <entries>] [--app <app>] [--actor <who>] [--since <time>] [--until <time>] [--failed] [--reports] [--json]

Manage the clusters that this command line knows, the domain of one, where it sends its logs, and see who changed
what in it.

Options:
  -f, --force              replace an entry of the same name or URL
  -d, --default            make it the default
  --git-url=<url>          git URL [default: https://git.<domain>]
  --no-git                 do not set up git for it
  --image-url=<url>        image URL [default: https://images.<domain>]
  --docker                 remember where docker images were pushed to: https://docker.<domain>
  --docker-push-url=<url>  the same, elsewhere
  -p, --tls-pin=<pin>      base64 SHA-256 of the cluster's certificate
  -y, --yes                do not ask
  --use-ids                name apps by id in the log
  --insecure               do not verify the certificate of a syslog+tls receiver
  --format=<format>        rfc6587, newline or prefixed_newline [default: rfc6587]
  -n, --number=<entries>   so many of the newest entries of the audit log [default: 100]
  --app=<app>              only calls about this app
  --actor=<who>            only calls with this key or token
  --since=<time>           only calls from then on, such as 2026-01-31T12:00:00Z
  --until=<time>           only calls before then
  --failed                 only calls that were refused or failed
  --reports                also what the scheduler reports
  --json                   print as JSON

Examples:
  $ flynn cluster add -p KGCENkp53YF5OvOKkZIry71+czFRkSw2ZdMszZ/0ljs= default dev.example.com e09dc5301d72be755a3d666f617c4600
  Cluster "default" added and set as default.

  $ flynn cluster log-sink add syslog syslog+tls://logs.example.com:6514
  $ flynn cluster audit-log -n 20 --app hello
`,
  async run(argv, context) {
    const { action, rest } = splitAction(argv, groupOptions)
    if (action === undefined || action === 'list') await list(rest, context)
    else if (action === 'add') await add(rest, context)
    else if (action === 'remove') await remove(rest, context)
    else if (action === 'default') await setDefault(rest, context)
    else if (action === 'log-sink') await (await import('../log-sinks.ts')).logSink(rest, context)
    else if (action === 'audit-log') await auditLog(rest, context)
    else if (action === 'migrate-domain') await (await import('../domain.ts')).migrateDomain(rest, context)
    else throw new UnknownAction(action)
    return 0
  },
}
