// One request or TCP connection as HAProxy reports it when it ends, and the line that its app's log gets. Pure.
// Formats: frontend.core.ts; HAProxy writes `-` for what it does not know.

export type Access = {
  /** Route id; for TCP the listener's port. */
  readonly key: string
  readonly kind: 'http' | 'tcp'
  /** 499: the client went before there was an answer. 0 for TCP. */
  readonly status: number
  readonly durationMs: number
  readonly bytesOut: number
  readonly bytesIn: number
  /** Name of the server in HAProxy; `-` when none was reached. */
  readonly server: string
  readonly client: string
  readonly tls: boolean
  readonly requestId: string
  readonly method: string
  readonly host: string
  readonly target: string
}

const clientGone = 499
const number = (text: string | undefined) => {
  const value = Number(text)
  return Number.isFinite(value) && value > 0 ? value : 0
}

/** Undefined for lines that belong to no route: unknown hosts, attach connections, status checks. */
export function parseAccess(line: string): Access | undefined {
  const f = line.split(' ')
  const key = f[1] ?? '-'
  if (key === '-') return undefined
  if (f[0] === 'T') {
    return {
      ...nothing,
      key,
      kind: 'tcp',
      durationMs: number(f[2]),
      bytesOut: number(f[3]),
      bytesIn: number(f[4]),
      server: f[5] ?? '-',
      client: f[6] ?? '-',
    }
  }
  if (f[0] !== 'H') return undefined
  return {
    key,
    kind: 'http',
    status: f[2] === '-' ? clientGone : number(f[2]),
    durationMs: Math.max(0, number(f[4]) - number(f[3])),
    bytesOut: number(f[5]),
    bytesIn: number(f[6]),
    server: f[7] ?? '-',
    client: f[8] ?? '-',
    tls: f[9] === '1',
    requestId: f[10] ?? '-',
    method: f[11] ?? '-',
    host: f[12] ?? '-',
    target: f.slice(13).join(' '),
  }
}

const nothing = {
  status: 0,
  tls: false,
  requestId: '-',
  method: '-',
  host: '-',
  target: '-',
} as const

/** A line of `flynn log`. `job` is the one that answered. */
export function accessText(a: Access, job: string | undefined): string {
  const from = `fwd="${a.client}"${job ? ` job=${job}` : ''}`
  const size = `bytes=${a.bytesOut} duration=${a.durationMs}ms`
  if (a.kind === 'tcp') return `tcp port=${a.key} ${from} received=${a.bytesIn} ${size}`
  const target = a.target.replaceAll('"', '%22')
  return `method=${a.method} path="${target}" host=${a.host} request_id=${a.requestId} ${from} status=${a.status} ${size} protocol=${a.tls ? 'https' : 'http'}`
}
