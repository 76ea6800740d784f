// What people read when a command fails: the controller's errors as `<code>: <message>`, a missing object as the
// original words it (contract cli.md 6), what to do about it, and the apps that may have been meant.
import { describeError, isFlynnError } from '../pkg/errors/errors.ts'
import type { CommandContext } from './context.ts'
import { ownCodes } from './errors.ts'
import { missingHint } from './missing-hint.core.ts'
import { nearest, orList } from './suggest.core.ts'

/** For looking up what else there is, once something was not found. */
export const suggestTimeoutMs = 3_000

const unreachable: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ERR_CONNECT_TIMEOUT',
  'EPIPE',
])

/** The controller's refusal in the original's words; undefined for an error that was found here. */
function refusal(e: unknown): string | undefined {
  if (!isFlynnError(e) || ownCodes.has(e.code)) return undefined
  if (isMissing(e)) return 'controller: resource not found'
  if (e.code === 'stream_error' || e.code === 'tls_pin_mismatch') return describeError(e)
  return `${e.code}: ${describeError(e)}`
}

const isMissing = (e: unknown) => isFlynnError(e, 'not_found') && e.status === 404

/** The controller's 404 has no text (contract controller.md 1.7): this one is some other server's. */
const strangers = /^[A-Z]+ \S+: HTTP 404 \S/
const checkPlace = ' (is the cluster up, and is this its address? flynn cluster shows what is asked)'

/** In one line, for lists of failures. */
export function failureText(e: unknown): string {
  const hint = isMissing(e) ? missingHint(describeError(e)) : ''
  return `${refusal(e) ?? describeError(e)}${hint}`
}

/** One or two lines, without a newline at the end. */
export async function describeFailure(e: unknown, context: CommandContext): Promise<string> {
  if (isFlynnError(e, 'unauthorized'))
    return `${await place(context)} does not accept the key of this configuration (flynn-host cli-add-command, on a host of the cluster, prints the line that adds it anew)`
  const refused = refusal(e)
  if (refused !== undefined && isMissing(e))
    return strangers.test(describeError(e))
      ? `${await place(context)} is not there: what answers is no Flynn controller${checkPlace}`
      : `${refused}${(await suggestApp(context)) || missingHint(describeError(e))}`
  if (refused !== undefined) return refused
  const code = e instanceof Error && 'code' in e ? String(e.code) : ''
  if (unreachable.has(code)) return `cannot reach ${await place(context)}: ${reasonOf(e)}${checkPlace}`
  if (e instanceof Error && e.name === 'TimeoutError')
    return `${await place(context)} did not answer in time${checkPlace}`
  return describeError(e)
}

/** Several addresses that were tried fail as one error without words. */
function reasonOf(e: unknown): string {
  if (e instanceof AggregateError) return e.errors.map(inner => describeError(inner)).join('; ')
  return describeError(e)
}

async function place(context: CommandContext): Promise<string> {
  const cluster = await context.cluster().catch(() => undefined)
  return cluster === undefined ? 'the controller' : `the controller at ${cluster.ControllerURL}`
}

/** Says so when what was not found is the app itself, and names those that are spelled like it. */
async function suggestApp(context: CommandContext): Promise<string> {
  const asked = context.askedApp
  if (asked === undefined) return ''
  try {
    const client = await context.client()
    const apps = await client.apps({ signal: AbortSignal.timeout(suggestTimeoutMs), retryMs: 0 })
    if (apps.some(a => a.name === asked || a.id === asked)) return ''
    const meant = nearest(
      asked,
      apps.map(a => a.name),
    )
    const hint =
      meant.length === 0 ? 'flynn apps lists those that do exist' : `did you mean ${orList(meant)}?`
    return ` (there is no app "${asked}"; ${hint})`
  } catch {
    // The error that is being told matters more than a hint that cannot be had.
    return ''
  }
}
