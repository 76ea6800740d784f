// `flynn route` (contract cli.md 8.4).
import { readFile } from 'node:fs/promises'
import type { Route, RouteInput } from '../../controller/types.ts'
import { table } from '../../pkg/table/table.ts'
import { routeId, schemeOf } from '../addresses.ts'
import type { Command } from '../command.ts'
import type { CommandContext } from '../context.ts'
import { errors } from '../errors.ts'
import { orUndefined } from '../missing.ts'
import { type Change, diffRoutes, type Plan } from '../plan.core.ts'
import { goesOn } from '../planning.ts'
import {
  askable,
  askableHelp,
  askedFields,
  certificateTroubles,
  revocable,
  tlsColumn,
  trafficColumns,
  trafficHead,
} from '../route-options.ts'
import { parse, splitAction, UnknownAction, UsageError } from '../usage.ts'

function describe(route: RouteInput | Route): string {
  if (route.type === 'tcp') return `tcp:${route.port ?? ''}`
  return `${schemeOf(route)}:${route.domain ?? ''}${route.port ? `:${route.port}` : ''}`
}

/** Keys of certificates stay out of what people paste somewhere. */
function withoutKeys(route: Route): Route {
  const { tls_key: _key, certificate, ...rest } = route
  if (certificate === undefined) return rest
  const { key: _certificateKey, ...shown } = certificate
  return { ...rest, certificate: shown }
}

async function list(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 0 })
  const client = await context.client()
  const app = await context.appName()
  // The original's controller has neither figures nor automatic certificates.
  const [routes, traffic, all] = await Promise.all([
    client.appRoutes(app),
    orUndefined(client.routeTraffic(app)),
    orUndefined(client.managedCertificates()),
  ])
  const domains = new Set(routes.map(r => r.managed_certificate_domain))
  const managed = (all ?? []).filter(m => domains.has(m.domain))
  const trafficOf = (r: Route) => traffic?.find(t => t.route_id === r.id)
  const managedOf = (r: Route) => managed.find(m => m.domain === r.managed_certificate_domain)
  const rows = routes.map(r => [
    describe(r),
    r.service,
    routeId(r),
    r.type === 'http' ? String(r.sticky ?? false) : '',
    String(r.leader),
    r.type === 'http' ? (r.path ?? '/') : '',
    tlsColumn(r, managedOf(r)),
    ...trafficColumns(trafficOf(r)),
  ])
  const head = ['ROUTE', 'SERVICE', 'ID', 'STICKY', 'LEADER', 'PATH', 'TLS', ...trafficHead]
  const data = routes.map(r => ({
    ...withoutKeys(r),
    managed_certificate: managedOf(r),
    traffic: trafficOf(r),
  }))
  context.print(args, data, table([head, ...rows]))
  if (!args.json) for (const line of certificateTroubles(managed)) context.notice(line)
}

async function readPem(path: string): Promise<string> {
  if (path !== '-') {
    return await readFile(path, 'utf8').catch(e => {
      throw errors.FILE_UNREADABLE({ path, reason: e.message }, { cause: e })
    })
  }
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}

const blocks = (pem: string, kind: RegExp) =>
  [...pem.matchAll(/-----BEGIN ([A-Z ]+)-----[\s\S]*?-----END \1-----/g)]
    .filter(m => kind.test(m[1] ?? ''))
    .map(m => `${m[0]}\n`)
    .join('')

/** Certificate and key from two files, or both from standard input. */
async function certificate(cert: string | undefined, key: string | undefined): Promise<Partial<RouteInput>> {
  if (cert === undefined && key === undefined) return {}
  if (cert === undefined || key === undefined) throw errors.ROUTE_TLS_PAIR()
  const certText = await readPem(cert)
  const keyText = key === '-' && cert === '-' ? certText : await readPem(key)
  return { tls_cert: blocks(certText, /CERTIFICATE/), tls_key: blocks(keyText, /PRIVATE KEY/) }
}

const addOptions = {
  service: { type: 'string', short: 's' },
  port: { type: 'string', short: 'p' },
  'tls-cert': { type: 'string', short: 'c' },
  'tls-key': { type: 'string', short: 'k' },
  sticky: { type: 'boolean' },
  leader: { type: 'boolean' },
  'no-leader': { type: 'boolean' },
  'no-drain-backends': { type: 'boolean' },
  'disable-keep-alives': { type: 'boolean' },
  ...askable,
} as const

function portOf(text: string | undefined): { port?: number } {
  if (text === undefined) return {}
  if (!/^\d+$/.test(text)) throw new UsageError('--port wants a number')
  return { port: Number(text) }
}

/** `www.example.com/api` as domain and path. */
function addressOf(text: string): { readonly domain: string; readonly path?: string } {
  const slash = text.indexOf('/')
  return slash < 0 ? { domain: text } : { domain: text.slice(0, slash), path: text.slice(slash) }
}

async function add(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 1, max: 2, plan: true, options: addOptions })
  const [type, address] = args.rest
  if (type !== 'http' && type !== 'tcp') throw new UsageError('')
  if ((type === 'http') !== (address !== undefined)) throw new UsageError('')
  const { domain } = addressOf(address ?? '')
  const asked = askedFields(args, domain)
  if (args.flag('auto-tls') && (args.text('tls-cert') ?? args.text('tls-key')) !== undefined)
    throw errors.ROUTE_TLS_AUTO()
  const app = await context.app()
  const common = {
    service: args.text('service') ?? `${app.name}-web`,
    leader: args.flag('leader'),
    drain_backends: !args.flag('no-drain-backends'),
    ...portOf(args.text('port')),
  }
  const input: RouteInput =
    type === 'tcp'
      ? { ...common, ...asked, type }
      : {
          ...common,
          ...(await certificate(args.text('tls-cert'), args.text('tls-key'))),
          ...addressOf(address ?? ''),
          type,
          sticky: args.flag('sticky'),
          disable_keep_alives: args.flag('disable-keep-alives'),
          ...asked,
        }
  const name = `route ${describe(input)}${input.path ?? ''}`
  const changes: readonly Change[] = [{ action: 'add', what: name }, ...diffRoutes(name, undefined, input)]
  if (!(await goesOn(context, args, { changes, steps: [] }))) return
  const route = await (await context.client()).createRoute(app.id, input)
  const shown = routeId(route)
  const text = type === 'tcp' ? `${shown} listening on port ${route.port}\n` : `${shown}\n`
  context.print(args, withoutKeys(route), text)
}

const updateOptions = {
  service: { type: 'string', short: 's' },
  'tls-cert': { type: 'string', short: 'c' },
  'tls-key': { type: 'string', short: 'k' },
  'no-tls': { type: 'boolean' },
  sticky: { type: 'boolean' },
  'no-sticky': { type: 'boolean' },
  leader: { type: 'boolean' },
  'no-leader': { type: 'boolean' },
  'disable-keep-alives': { type: 'boolean' },
  'enable-keep-alives': { type: 'boolean' },
  ...revocable,
} as const

function checkId(id: string): string {
  if (!/^(http|tcp)\/[\w-]+$/.test(id)) throw errors.ROUTE_ID({ id })
  return id
}

const chosen = (on: boolean, off: boolean, before: boolean | undefined) =>
  on ? true : off ? false : (before ?? false)

/**
 * The route without its certificate, which then stays as it is. It cannot be taken away by an update (contract cli.md
 * 14.5): `--no-tls` makes the route anew.
 */
function withoutCertificate(route: Route): RouteInput {
  const { certificate: _certificate, tls_cert: _cert, tls_key: _key, ...rest } = route
  const { acme_thumbprint: _thumbprint, managed_certificate_domain: _managed, ...input } = rest
  return input
}

function updateArgs(argv: readonly string[]) {
  const args = parse(argv, { min: 1, max: 1, plan: true, options: updateOptions })
  for (const [on, off] of [
    ['sticky', 'no-sticky'],
    ['leader', 'no-leader'],
    ['enable-keep-alives', 'disable-keep-alives'],
  ] as const)
    if (args.flag(on) && args.flag(off)) throw new UsageError(`--${on} and --${off} exclude each other`)
  if (args.flag('no-tls') && (args.text('tls-cert') ?? args.text('tls-key')) !== undefined)
    throw errors.ROUTE_TLS_OFF()
  if (args.flag('auto-tls') && (args.flag('no-tls') || (args.text('tls-cert') ?? args.text('tls-key'))))
    throw errors.ROUTE_TLS_AUTO()
  return args
}

async function changed(route: Route, args: ReturnType<typeof updateArgs>): Promise<RouteInput> {
  const leader = chosen(args.flag('leader'), args.flag('no-leader'), route.leader)
  const service = args.text('service') ?? route.service
  const asked = askedFields(args, route.domain, name => args.flag(name))
  if (route.type === 'tcp') return { ...withoutCertificate(route), service, leader, ...asked }
  const keepAlives = [args.flag('disable-keep-alives'), args.flag('enable-keep-alives')] as const
  return {
    ...withoutCertificate(route),
    ...(await certificate(args.text('tls-cert'), args.text('tls-key'))),
    service,
    leader,
    sticky: chosen(args.flag('sticky'), args.flag('no-sticky'), route.sticky),
    disable_keep_alives: chosen(...keepAlives, route.disable_keep_alives),
    ...asked,
  }
}

async function update(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = updateArgs(argv)
  const id = checkId(args.rest[0] ?? '')
  if (id.startsWith('tcp/') && args.text('service') === undefined) throw errors.ROUTE_NO_SERVICE()
  const client = await context.client()
  const app = await context.appName()
  const route = await client.route(app, id)
  const input = await changed(route, args)
  const dropsTls = args.flag('no-tls') && schemeOf(route) === 'https'
  const drop: readonly Change[] = dropsTls ? [{ action: 'remove', what: `route ${id} certificate` }] : []
  const changes = [...diffRoutes(`route ${id}`, route, input), ...drop]
  if (!(await goesOn(context, args, { changes, steps: [] }))) return
  const made = dropsTls ? await anew(context, id, input) : await client.updateRoute(app, id, input)
  const shown = routeId(made)
  const text = made.type === 'tcp' ? `${shown} listening on port ${made.port}\n` : `updated ${shown}\n`
  context.print(args, withoutKeys(made), text)
}

/** Takes the route away and puts the same back without a certificate; between the two it leads nowhere. */
async function anew(context: CommandContext, id: string, input: RouteInput): Promise<Route> {
  const client = await context.client()
  const app = await context.appName()
  await client.deleteRoute(app, id)
  const { id: _id, ...rest } = input
  return await client.createRoute(app, rest)
}

async function remove(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 1, max: 1, plan: true })
  const id = checkId(args.rest[0] ?? '')
  const client = await context.client()
  const app = await context.appName()
  const plan = async (): Promise<Plan> => {
    const route = await client.route(app, id)
    return {
      changes: [{ action: 'remove', what: `route ${describe(route)}${route.path ?? ''}` }],
      steps: [],
    }
  }
  if (!(await goesOn(context, args, plan))) return
  await client.deleteRoute(app, id)
  context.print(args, { id }, `Route ${id} removed.\n`)
}

const groupOptions = { ...addOptions, ...updateOptions }

export const route: Command = {
  usage: `usage: flynn route [--json]
       flynn route add http [-s <service>] [-p <port>] [-c <cert> -k <key> | --auto-tls] [--sticky] [--leader] [--no-leader] [--no-drain-backends] [--disable-keep-alives] [<option>...] [--plan] [--json] <domain>[/<path>]
       flynn route add tcp [-s <service>] [-p <port>] [--leader] [--no-drain-backends] [--plan] [--json]
       flynn route update [-s <service>] [-c <cert> -k <key> | --no-tls] [--[no-]sticky] [--[no-]leader] [--disable-keep-alives | --enable-keep-alives] [<option>...] [--plan] [--json] <id>
       flynn route remove [--plan] [--json] <id>

Manage the routes that lead to an app. The list shows how each route has its certificate, and what all routers together
counted in the last minute: requests a second, part of answers of 500 and above, and the 99th percentile of durations.

Options:
  -s, --service=<service>  service to lead to [default: APP-web]
  -p, --port=<port>        TCP port; the cluster chooses one without it
  -c, --tls-cert=<file>    certificate in PEM, - for standard input
  -k, --tls-key=<file>     its key in PEM, - for standard input
  --no-tls                 take the certificate away; the route gets a new id
  --sticky                 keep each client on its instance
  --no-sticky              do not
  --leader                 lead to the service's leader only
  --no-leader              lead to all instances
  --no-drain-backends      do not wait for requests under way when a job stops
  --disable-keep-alives    a connection for each request
  --enable-keep-alives     connections may carry several
${askableHelp}
  --plan                   show what would change; on a terminal, ask before it is done
  --json                   print as JSON

Examples:
  $ flynn -a hello route add http www.example.com/api
  http/5ababd60-3f50-4a5e-a1b4-2a7e0b3a5a77

  $ flynn -a hello route add http --auto-tls --redirect-https www.example.com
  http/7d1f9f0e-2c7e-4b0f-8f3e-4a2a0b3a5a77

  $ flynn -a echo route add tcp
  tcp/1ba949d1-6f4b-4a2a-b3f5-4a2a0b3a5a77 listening on port 3000
`,
  async run(argv, context) {
    const { action, rest } = splitAction(argv, groupOptions)
    if (action === undefined) await list(rest, context)
    else if (action === 'add') await add(rest, context)
    else if (action === 'update') await update(rest, context)
    else if (action === 'remove') await remove(rest, context)
    else throw new UnknownAction(action)
    return 0
  },
}
