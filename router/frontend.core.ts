// Rules of the HTTP frontend as HAProxy text: which route a request has, what is answered without a backend, which
// headers reach the backend. Pure. Contract router.md 4.1-4.4, 4.9; directives and their reasons: evidence/router.md 3, 6.
import { attachKey } from './table.core.ts'

export type RouterSettings = {
  readonly dir: string
  readonly listenIp: string
  /** No plain HTTP on a port of everyone when absent. */
  readonly httpPort: number | undefined
  readonly httpsPort: number
  /** These have routes of their own. */
  readonly additionalHttpPorts: readonly number[]
  readonly additionalHttpsPorts: readonly number[]
  readonly tcpRange: { readonly first: number; readonly last: number } | undefined
  /** Clients whose connections begin with no PROXY line although `proxyProtocol` is set: jobs and the host itself. */
  readonly proxyExempt: readonly string[]
  readonly proxyProtocol: boolean
  readonly legacyTls: boolean
  /** Keys the stickiness cookie; the same on every router of a cluster. */
  readonly cookieKey: string
  /** Certificate and key in one PEM text for names without one of their own; no TLS at all when absent. */
  readonly defaultPem: string | undefined
  readonly haproxyUser: string | undefined
  /** HTML instead of the plain text of a 503. */
  readonly unavailablePage?: string | undefined
  /** A line for every request to the control process. */
  readonly accessLog: boolean
}

export const files = {
  config: 'haproxy.cfg',
  http: 'http.map',
  wildcard: 'wildcard.map',
  tcp: 'tcp.map',
  certificateList: 'certificates.list',
  certificates: 'certificates',
  socket: 'admin.sock',
  master: 'master.sock',
  access: 'access.sock',
  pid: 'haproxy.pid',
  tickets: 'tickets.keys',
  hopByHop: 'hop-by-hop.lua',
  unavailable: '503.http',
  unavailableBody: '503.body',
} as const

/** `*.` is put before the host and labels are taken off the front this many times. */
const wildcardLevels = 8
/** Seconds after which a client may ask a route in maintenance again. */
const retryAfterSeconds = 60
/** For the first byte of a body that has no length, on routes that limit bodies. */
const bodyWait = '10s'
/** Clients and routes whose rates are counted; the oldest make room. */
const countedMax = 100_000

const additionalPorts = (s: RouterSettings) => [...s.additionalHttpPorts, ...s.additionalHttpsPorts]

/**
 * `txn.route` from the maps: the exact host, then wildcards from the nearest on, then the catch-all. The path is compared
 * with a slash at its end; on an additional port it is `:port/path/`, so that its routes are no others'.
 */
function chooseRoute(s: RouterSettings): readonly string[] {
  const unless = 'if !{ var(txn.route) -m found }'
  const look = (from: string, map: string) =>
    `http-request set-var(txn.route) ${from},concat(,txn.path),map_beg(${s.dir}/${map})`
  const parent = (level: number) => (level === 0 ? '' : `,field(${level + 1},.,0)`)
  const ported = additionalPorts(s)
  return [
    'http-request set-var(txn.name) req.hdr(host),lower,field(1,:)',
    'http-request set-var(txn.path) path,concat(/)',
    'http-request set-var(txn.path) var(txn.path),regsub(//+,/,g) if { path_sub // }',
    ...(ported.length > 0
      ? [`http-request set-var-fmt(txn.path) ":%[so_id]%[var(txn.path)]" if { so_id ${ported.join(' ')} }`]
      : []),
    look('var(txn.name)', files.http),
    ...Array.from(
      { length: wildcardLevels },
      (_, level) => `${look(`var(txn.name)${parent(level)}`, files.wildcard)} ${unless}`,
    ),
    `${look('str(*)', files.wildcard)} ${unless}`,
    `http-request return status 404 content-type text/plain string "Not Found\\n" ${unless}`,
    'http-request set-var(txn.flags) var(txn.route),field(3,|)',
    'http-request set-var(txn.id) var(txn.route),field(2,|)',
  ]
}

function redirectTarget(s: RouterSettings): string {
  const port = s.httpsPort
  return `https://%[var(txn.name)]${port === 443 ? '' : `:${port}`}%[pathq]`
}

/** What routes ask for beyond passing requests on. Rules of the backends of such routes: no other request sees them. */
export function optionRules(s: RouterSettings): readonly string[] {
  const page = s.unavailablePage === undefined ? 'text/plain' : '"text/html; charset=utf-8"'
  const flag = (letter: string) => `{ var(txn.flags) -m sub ${letter} }`
  const over = (field: number, used: string) =>
    `{ var(txn.route),field(${field},|),sub(${used}) -m int lt 0 }`
  const told = (status: number, text: string) =>
    `http-request return status ${status} content-type text/plain string "${text}\\n"`
  const unsized = `${flag('z')} !{ req.hdr(content-length) -m found }`
  return [
    `http-request return status 200 content-type text/plain lf-string "%[path,word(3,/)].%[var(txn.route),field(4,|)]" if ${flag('a')} { path -m reg ^/\\.well-known/acme-challenge/[A-Za-z0-9_-]+$ }`,
    `${told(404, 'Not Found')} if ${flag('a')}`,
    `http-request return status 503 content-type ${page} file ${s.dir}/${files.unavailableBody} hdr Retry-After ${retryAfterSeconds} if ${flag('m')}`,
    `http-request redirect location ${redirectTarget(s)} code 301 if ${flag('r')} !{ ssl_fc } { method GET HEAD }`,
    `http-request redirect location ${redirectTarget(s)} code 308 if ${flag('r')} !{ ssl_fc }`,
    `http-request set-var(txn.client) src,concat(\\ ,txn.id) if ${flag('l')}`,
    `http-request track-sc0 var(txn.client) table rates if ${flag('l')}`,
    `http-request set-var(txn.used) sc_http_req_rate(0) if ${flag('l')}`,
    `${told(429, 'Too Many Requests')} hdr Retry-After 1 if ${flag('l')} ${over(4, 'txn.used')}`,
    `http-request track-sc1 var(txn.id) table concurrent if ${flag('c')}`,
    `http-request set-var(txn.used) sc_conn_cur(1) if ${flag('c')}`,
    `${told(429, 'Too Many Requests')} hdr Retry-After 1 if ${flag('c')} ${over(5, 'txn.used')}`,
    // HTTP/2 bodies need announce nothing: a first byte without a length is enough to refuse them.
    `http-request wait-for-body time ${bodyWait} at-least 1 if ${unsized}`,
    `${told(411, 'Length Required')} if ${unsized} { req.body_len gt 0 }`,
    `${told(411, 'Length Required')} if ${flag('z')} { req.hdr(transfer-encoding) -m found }`,
    `http-request set-var(txn.length) req.hdr(content-length) if ${flag('z')}`,
    `${told(413, 'Request Entity Too Large')} if ${flag('z')} ${over(6, 'txn.length')}`,
  ]
}

/** More than the one word that nearly every Connection header is: the slow way is taken for those only. */
const namesHeaders = (side: string) =>
  `if { ${side}.hdr_cnt(connection) gt 1 } or { ${side}.hdr(connection) -m found } !{ ${side}.hdr(connection) -m str -i keep-alive close upgrade }`

/** The values that came, if any, and one more. Several lines of a header have been joined before. */
const appended = (name: string, value: string) =>
  `http-request set-header ${name} "%[req.fhdr(${name}),concat(', ')]${value}"`

const requestHeaders = [
  `http-request lua.hop_by_hop ${namesHeaders('req')}`,
  'http-request del-header te',
  'http-request del-header trailers',
  'http-request del-header upgrade if { req.hdr(upgrade) -m found } !{ req.fhdr(connection) -m sub -i upgrade }',
  'http-request set-header X-Request-Id %[uuid()] if !{ req.hdr(x-request-id) -m reg ^[a-zA-Z0-9+/=-]{20,200}$ }',
  'http-request set-header X-Request-Start %[var(txn.start)]',
  'http-request lua.join_forwarded if { req.fhdr_cnt(x-forwarded-for) gt 1 }',
  appended('X-Forwarded-For', '%[src]'),
  `${appended('X-Forwarded-Proto', 'https')} if { ssl_fc }`,
  `${appended('X-Forwarded-Proto', 'http')} if !{ ssl_fc }`,
  appended('X-Forwarded-Port', '%[dst_port]'),
]

/** Split at blanks by access.core.ts; what clients choose freely comes last. */
export const httpLogFormat =
  'H %[var(txn.id)] %[var(txn.status)] %[var(txn.start)] %[date(0,ms)] %B %U %s %ci %[ssl_fc] %[var(txn.told)]'
export const tcpLogFormat = 'T %fp %Tt %B %U %s %ci'

const logged = [
  'http-request set-var-fmt(txn.told) "%[req.hdr(x-request-id)] %[method] %[var(txn.name)] %[pathq]"',
  'http-after-response set-var(txn.status) status',
]

export function binds(s: RouterSettings): string {
  const expected = s.proxyProtocol && s.proxyExempt.length === 0 ? ' accept-proxy' : ''
  const httpPorts = [...(s.httpPort === undefined ? [] : [s.httpPort]), ...s.additionalHttpPorts]
  const plain = httpPorts.map(port => `bind ${s.listenIp}:${port} id ${port}${expected} backlog 4096`)
  const tls = s.defaultPem
    ? [s.httpsPort, ...s.additionalHttpsPorts].map(
        port =>
          `bind ${s.listenIp}:${port} id ${port}${expected} backlog 4096 ssl crt-list ${s.dir}/${files.certificateList} alpn h2,http/1.1 tls-ticket-keys ${s.dir}/${files.tickets}`,
      )
    : []
  const exempt =
    s.proxyProtocol && s.proxyExempt.length > 0
      ? [`tcp-request connection expect-proxy layer4 if !{ src ${s.proxyExempt.join(' ')} }`]
      : []
  return [...plain, ...tls, ...exempt].map(line => `  ${line}`).join('\n')
}

/** The frontend of all HTTP and HTTPS ports. */
export function httpFrontend(s: RouterSettings): string {
  const ports = [s.httpPort, s.httpsPort].filter(p => p !== undefined)
  const lines = [
    // HAProxy takes the upgrade off a request that has a body, and `flynn run` is just that: such a connection is passed
    // on as raw bytes to the controller. Every other one becomes HTTP when its first head is complete.
    'tcp-request inspect-delay 60s',
    'acl attach req.hdr(upgrade) -m beg -i flynn-attach/',
    'tcp-request content accept if HTTP attach',
    'tcp-request content switch-mode http if HTTP',
    'tcp-request content switch-mode http if { ssl_fc_alpn -i h2 }',
    'tcp-request content switch-mode http',
    `use_backend %[int(${attachKey}),map_int(${s.dir}/${files.tcp})] if attach`,
    `http-request return status 200 content-type application/json string "{\\"data\\":{\\"status\\":\\"healthy\\"}}" if { path /.well-known/status } { so_id ${ports.join(' ')} }`,
    'http-request set-var(txn.start) date(0,ms)',
    ...chooseRoute(s),
    ...requestHeaders,
    ...(s.accessLog ? logged : []),
    'http-request disable-l7-retry if !{ method GET HEAD OPTIONS PUT DELETE }',
    'use_backend %[var(txn.route),field(1,|)]',
    `http-response lua.hop_by_hop_response ${namesHeaders('res')}`,
    'http-response del-header te',
    'http-response del-header trailers',
  ]
  const log = s.accessLog
    ? ['log ring@access format raw local0 info', `log-format "${httpLogFormat}"`, 'no option dontlog-normal']
    : []
  return `frontend http from plain
  mode tcp
${binds(s)}
${[...log, ...lines].map(line => `  ${line}`).join('\n')}

backend rates from plain
  stick-table type string len 96 size ${countedMax} expire 10s store http_req_rate(1s)

backend concurrent from plain
  stick-table type string len 48 size ${countedMax} expire 1h store conn_cur
`
}

/** Headers that `Connection` names are of that connection only; an upgrade passes as it is (contract 4.3, 4.4). */
export const hopByHopScript = `local kept = { host = true, ["content-length"] = true, ["transfer-encoding"] = true, connection = true }

local function drop(headers, delete)
  local values = headers["connection"]
  if values == nil then return end
  local names = {}
  for _, value in pairs(values) do
    for name in string.gmatch(value, "[^,%s]+") do
      name = string.lower(name)
      if name == "upgrade" then return end
      names[name] = true
    end
  end
  for name, _ in pairs(names) do
    if not kept[name] then delete(name) end
  end
  delete("connection")
  delete("upgrade")
end

core.register_action("hop_by_hop", { "http-req" }, function(txn)
  drop(txn.http:req_get_headers(), function(name) txn.http:req_del_header(name) end)
end)

core.register_action("join_forwarded", { "http-req" }, function(txn)
  local values = txn.http:req_get_headers()["x-forwarded-for"]
  local all = {}
  for i = 0, #values do all[#all + 1] = values[i] end
  txn.http:req_set_header("x-forwarded-for", table.concat(all, ", "))
end)

core.register_action("hop_by_hop_response", { "http-res" }, function(txn)
  drop(txn.http:res_get_headers(), function(name) txn.http:res_del_header(name) end)
end)
`
