// What a command would change, said before it is done (`--plan`): differences of releases, counts and routes as lines
// for people and as data for programs. Pure: both sides are given.
import type { Processes, ProcessType, Route, RouteInput } from '../controller/types.ts'
import { formatLimit } from './limits.ts'

export type Change = {
  readonly action: 'add' | 'change' | 'remove'
  /** What it is about: `env LOG_LEVEL`, `process web memory`, `scale web`, `route http:example.com`. */
  readonly what: string
  readonly before?: string
  readonly after?: string
}

export type Plan = {
  readonly changes: readonly Change[]
  /** What happens to make it so, each a sentence. */
  readonly steps: readonly string[]
}

const marks = { add: '+', change: '~', remove: '-' } as const

function valuesOf({ action, before, after }: Change): string {
  if (action === 'change') return `: ${before} => ${after}`
  const value = action === 'add' ? after : before
  return value === undefined || value === '' ? '' : `: ${value}`
}

/** Lines, each ending in a newline. */
export function renderPlan(plan: Plan): string {
  const changes = plan.changes.map(c => `${marks[c.action]} ${c.what}${valuesOf(c)}\n`)
  const lines = changes.length === 0 ? ['nothing changes\n'] : changes
  return [...lines, ...plan.steps.map(step => `=> ${step}\n`)].join('')
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}

/** Key by key, sorted; `what` begins each change's name. */
export function diffMaps(
  what: string,
  before: Readonly<Record<string, unknown>> | undefined,
  after: Readonly<Record<string, unknown>> | undefined,
): readonly Change[] {
  const keys = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])].sort()
  return keys.flatMap((key): readonly Change[] => {
    const [a, b] = [before?.[key], after?.[key]]
    const name = `${what} ${key}`
    if (a === undefined && b === undefined) return []
    if (a === undefined) return [{ action: 'add', what: name, after: text(b) }]
    if (b === undefined) return [{ action: 'remove', what: name, before: text(a) }]
    return text(a) === text(b) ? [] : [{ action: 'change', what: name, before: text(a), after: text(b) }]
  })
}

function diffProcess(
  type: string,
  before: ProcessType | undefined,
  after: ProcessType | undefined,
): readonly Change[] {
  const what = `process ${type}`
  if (before === undefined) return [{ action: 'add', what, after: (after?.args ?? []).join(' ') }]
  if (after === undefined) return [{ action: 'remove', what }]
  const { env: envBefore, resources: limitsBefore, ...restBefore } = before
  const { env: envAfter, resources: limitsAfter, ...restAfter } = after
  return [
    ...diffMaps(what, filled(restBefore), filled(restAfter)),
    ...diffMaps(`${what} env`, envBefore, envAfter),
    ...diffMaps(`${what} limit`, limitsOf(limitsBefore), limitsOf(limitsAfter)),
  ]
}

/** Without what says nothing: empty lists, empty texts, false. */
function filled(fields: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const says = (v: unknown) =>
    v !== undefined && v !== null && v !== false && v !== '' && !(Array.isArray(v) && v.length === 0)
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => says(value)))
}

function limitsOf(resources: ProcessType['resources']): Readonly<Record<string, string>> {
  const limits = Object.entries(resources ?? {}).flatMap(([name, r]) => {
    const limit = r?.limit ?? r?.request
    return limit === undefined || limit === null ? [] : [[name, formatLimit(name, limit)] as const]
  })
  return Object.fromEntries(limits)
}

type ReleaseParts = {
  readonly artifacts?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly meta?: Readonly<Record<string, string>>
  readonly processes?: Readonly<Record<string, ProcessType>>
}

/** What one release changes of another; everything is new when there was none. */
export function diffReleases(before: ReleaseParts | undefined, after: ReleaseParts): readonly Change[] {
  const [old, fresh] = [(before?.artifacts ?? []).join(', '), (after.artifacts ?? []).join(', ')]
  const image: readonly Change[] =
    old === fresh
      ? []
      : [
          old === ''
            ? { action: 'add', what: 'image', after: fresh }
            : { action: 'change', what: 'image', before: old, after: fresh },
        ]
  const types = [
    ...new Set([...Object.keys(before?.processes ?? {}), ...Object.keys(after.processes ?? {})]),
  ].sort()
  return [
    ...image,
    ...diffMaps('env', before?.env, after.env),
    ...diffMaps('meta', before?.meta, after.meta),
    ...types.flatMap(type => diffProcess(type, before?.processes?.[type], after.processes?.[type])),
  ]
}

export function countsText(counts: Processes | undefined): string {
  return Object.entries(counts ?? {})
    .filter(([, n]) => n > 0)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([type, n]) => `${type}=${n}`)
    .join(' ')
}

type Deploying = {
  readonly strategy: string
  readonly running: Processes | undefined
  /** The release's id, when it exists already. */
  readonly to?: string | undefined
}

/** What a deployment does to what runs. */
export function deploymentStep({ strategy, running, to }: Deploying): string {
  const name = to === undefined ? 'a new release' : `release ${to}`
  const counts = countsText(running)
  return counts === ''
    ? `${name} becomes current; nothing runs that it would replace`
    : `${name} replaces ${counts}, ${strategy}`
}

export function diffScale(before: Processes | undefined, wanted: Processes): readonly Change[] {
  return Object.entries(wanted)
    .filter(([type, n]) => (before?.[type] ?? 0) !== n)
    .map(([type, n]) => ({
      action: 'change' as const,
      what: `scale ${type}`,
      before: String(before?.[type] ?? 0),
      after: String(n),
    }))
}

const outward = [
  ...['service', 'leader', 'sticky', 'drain_backends', 'disable_keep_alives', 'managed_certificate_domain'],
  ...['redirect_https', 'maintenance', 'proxy_protocol', 'max_body_bytes', 'rate_limit', 'connection_limit'],
] as const

/** Fields of a route that people set; certificates are told of, never shown. */
export function diffRoutes(
  name: string,
  before: Partial<Route> | undefined,
  after: RouteInput,
): readonly Change[] {
  // What the wire leaves out is false; of a new route only what it has is worth a line.
  const fields = (route: Readonly<Record<string, unknown>>) =>
    Object.fromEntries(outward.map(key => [key, route[key] ?? false]))
  const changes = before
    ? diffMaps(name, fields(before), fields(after))
    : diffMaps(name, {}, filled(fields(after)))
  const given = after.tls_cert !== undefined
  const had = before?.certificate !== undefined || before?.tls_cert !== undefined
  const certificate: readonly Change[] = given
    ? [
        {
          action: had ? 'change' : 'add',
          what: `${name} certificate`,
          ...(had ? { before: 'old', after: 'new' } : {}),
        },
      ]
    : []
  return [...changes, ...certificate]
}
