// Single requests to one host, as a client without second tries sees them: a status, or why none came, and whether the
// request can have reached anybody. Used by the workload and the checks.
import { Agent, request } from 'undici'

export type Answer =
  | { readonly type: 'answered'; readonly status: number; readonly text: string }
  /** Refused or unreachable before a byte was sent. */
  | { readonly type: 'unsent'; readonly why: string }
  /** It may have been carried out. */
  | { readonly type: 'lost'; readonly why: string }

export type Ask = {
  readonly url: string
  readonly method?: 'GET' | 'PUT' | 'POST' | 'DELETE'
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  readonly timeoutMs: number
}

export type Wire = AsyncDisposable & { readonly ask: (ask: Ask) => Promise<Answer> }

const unsentCodes = ['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT']

export function openWire(): Wire {
  // A connection of its own for each request: one that a dead host left open says nothing about the next request.
  const agent = new Agent({ pipelining: 0, connect: { timeout: 3_000 } })
  return {
    async ask({ url, method = 'GET', headers = {}, body, timeoutMs }) {
      try {
        const signal = AbortSignal.timeout(timeoutMs)
        const answer = await request(url, { dispatcher: agent, method, headers, body: body ?? null, signal })
        return { type: 'answered', status: answer.statusCode, text: await answer.body.text() }
      } catch (e) {
        const code = e instanceof Error && 'code' in e ? String(e.code) : ''
        const why = e instanceof Error ? `${code || e.name}: ${e.message}` : String(e)
        return { type: unsentCodes.includes(code) ? 'unsent' : 'lost', why }
      }
    },
    [Symbol.asyncDispose]: () => agent.destroy(),
  }
}
