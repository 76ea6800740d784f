// The configuration that HAProxy starts from: settings, frontends, a pool of backends. Pure text. Everything that
// changes while it runs is also written here, so that a restarted HAProxy serves what it served.
// Directives and their reasons: evidence/router.md 3, 4, 6; codes and timeouts: contract router.md 4.5, 4.8, 5.
import { files, httpFrontend, optionRules, type RouterSettings, tcpLogFormat } from './frontend.core.ts'
import type { Layout } from './maps.core.ts'
import type { Flavour, Server } from './table.core.ts'

/** Bytes of a request's or answer's head, of an error page, and of one runtime command with its payload. */
export const bufferBytes = 32_768
/** Connections that an old worker still has after a reload are cut after this. */
const hardStop = '1h'
const accessLineBytesMax = 4_096
/** Lines wait here while the control process is away; the oldest are lost first. */
const accessRingBytes = 4_194_304

/** TLS before 1.2 has none of the modern ones, and OpenSSL lets its own signatures pass at level 0 only. */
const legacyCiphers = 'ECDHE+AES:AES128-SHA:AES256-SHA:@SECLEVEL=0'

/** Tells which configuration a running HAProxy has read. */
export const generationVariable = 'FLYNN_GENERATION'

function globalSection(s: RouterSettings, generation: string): string {
  return `global
  master-worker
  setenv ${generationVariable} ${generation}
  ${s.haproxyUser ? `user ${s.haproxyUser}\n  group ${s.haproxyUser}` : '# runs as it was started'}
  log stdout format raw local0 notice
  stats socket ${s.dir}/${files.socket} mode 600 level admin expose-fd listeners
  stats timeout 24h
  hard-stop-after ${hardStop}
  lua-load ${s.dir}/${files.hopByHop}
  tune.bufsize ${bufferBytes}
  tune.ssl.cachesize 20000
  # Patterns are few and short: to look one up in the cache takes longer than to match it.
  tune.pattern.cache-size 0
  ssl-default-bind-options ssl-min-ver ${s.legacyTls ? 'TLSv1.0' : 'TLSv1.2'}
  ssl-default-bind-ciphers ECDHE+AESGCM:ECDHE+CHACHA20${s.legacyTls ? `:${legacyCiphers}` : ''}
  ssl-default-bind-curves X25519:P-256

defaults plain
  mode http
  balance random(2)
  log global
  option dontlognull
  option dontlog-normal
  timeout connect 250ms
  timeout client 300s
  timeout server 600s
  timeout http-request 60s
  timeout http-keep-alive 300s
  timeout queue 1s
  timeout tunnel 24h
  option redispatch 1
  option idle-close-on-response
  option splice-auto
  retries 12
  retry-on conn-failure empty-response
  http-reuse always
  errorfile 502 ${s.dir}/${files.unavailable}
  errorfile 503 ${s.dir}/${files.unavailable}
  errorfile 504 ${s.dir}/${files.unavailable}

# Of routes that ask for more than passing requests on.
defaults special from plain
${optionRules(s)
  .map(rule => `  ${rule}`)
  .join('\n')}
`
}

function accessRing(s: RouterSettings): string {
  if (!s.accessLog) return ''
  return `ring access
  format raw
  maxlen ${accessLineBytesMax}
  size ${accessRingBytes}
  timeout connect 1s
  timeout server 10s
  server control unix@${s.dir}/${files.access} log-proto octet-count
`
}

function tcpFrontend(s: RouterSettings, extra: readonly number[]): string {
  const ports = [...(s.tcpRange ? [`${s.tcpRange.first}-${s.tcpRange.last}`] : []), ...extra]
  if (ports.length === 0) return ''
  const log = s.accessLog
    ? `\n  log ring@access format raw local0 info\n  log-format "${tcpLogFormat}"\n  no option dontlog-normal`
    : ''
  return `frontend tcp from plain
  mode tcp
  no option idle-close-on-response${log}
${ports.map(port => `  bind ${s.listenIp}:${port} backlog 4096`).join('\n')}
  tcp-request connection reject if !{ dst_port,map_int(${s.dir}/${files.tcp}) -m found }
  use_backend %[dst_port,map_int(${s.dir}/${files.tcp})]
`
}

/** What a server needs besides its address, in a file or added while HAProxy runs. */
export function serverOptions(flavour: Flavour, server: Server, added: boolean): string {
  // A server that is added has no pool of idle connections unless it is told to (evidence/router.md 6).
  const pool =
    flavour === 'b' || flavour === 's' ? `${added ? ' pool-max-conn -1' : ''} pool-purge-delay 30s` : ''
  return `${pool}${server.proxy ? ' send-proxy' : ''}`
}

function backendSection(
  slot: string,
  flavour: Flavour,
  servers: readonly Server[],
  s: RouterSettings,
): string {
  const special = flavour === 's' || flavour === 'n'
  const lines = [`backend ${slot} from ${special ? 'special' : 'plain'}`]
  if (flavour === 't') lines.push('  mode tcp', '  no option idle-close-on-response')
  // A client that is gone needs no answer: the backend learns of it (contract 8.35).
  else lines.push('  option abortonclose')
  if (special) {
    lines.push(
      '  cookie _backend insert indirect nocache httponly dynamic',
      `  dynamic-cookie-key ${s.cookieKey}`,
      '  ignore-persist if !{ var(txn.flags) -m sub s }',
    )
  }
  if (flavour === 'n') lines.push('  http-reuse never', '  option http-server-close')
  for (const server of servers)
    lines.push(`  server ${server.name} ${server.addr}${serverOptions(flavour, server, false)}`)
  return `${lines.join('\n')}\n`
}

export function renderConfig(s: RouterSettings, layout: Layout): string {
  const bySlot = new Map([...layout.desired.backends.values()].map(b => [layout.slots[b.key], b]))
  const sections = [
    globalSection(s, layout.generation),
    accessRing(s),
    httpFrontend(s),
    tcpFrontend(s, layout.tcpPorts),
  ]
  for (const [flavour, count] of Object.entries(layout.pool) as [Flavour, number][]) {
    for (let n = 1; n <= count; n++) {
      const slot = `${flavour}${n}`
      sections.push(backendSection(slot, flavour, bySlot.get(slot)?.servers ?? [], s))
    }
  }
  return sections.filter(Boolean).join('\n')
}

const plainUnavailable = 'Service Unavailable\n'

/** The whole answer when no backend can serve, and its body alone. A page that does not fit the buffer is not used. */
export function unavailableAnswer(s: RouterSettings): { readonly answer: string; readonly body: string } {
  const page = s.unavailablePage
  const fits = page !== undefined && Buffer.byteLength(page) <= unavailablePageBytesMax
  const body = fits ? page : plainUnavailable
  const type = fits ? 'text/html; charset=utf-8' : 'text/plain'
  const head = `HTTP/1.1 503 Service Unavailable\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`
  return { answer: head + body, body }
}

export const unavailablePageBytesMax = bufferBytes - 2_048
