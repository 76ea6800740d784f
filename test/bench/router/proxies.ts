// The proxies that are measured beside each other: ours as it runs in its job, HAProxy configured by hand with the same
// features, nginx, Caddy. Each is pinned to the same processor, each has the same routes to the same backends.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { poll } from '../../../pkg/clock/clock.ts'
import { createClusterCertificate } from '../../../pkg/tls/certificate.ts'
import { renderSnapshot } from '../../../router/snapshot.ts'
import { keepHaproxy } from '../../fixtures/haproxy.ts'
import { freePort } from '../../fixtures/ports.ts'
import { http, tableOf, tcp as tcpRoute } from '../../fixtures/router.ts'

export const startTimeoutMs = 120_000
/** Load and backends have the other processor. */
export const proxyCpu = 1
export const loadCpu = 0
const pin = (cpu: number) => ['taskset', '-c', String(cpu)]

/** A host name and the address of its backend. */
export type Site = { readonly host: string; readonly addr: string }

export type MeasuredProxy = {
  readonly name: string
  readonly http: number
  readonly https: number | undefined
  /** Leads to `tcpTo` of the setting. */
  readonly tcp?: number
  /** Processes whose processor time counts. */
  readonly pids: () => readonly number[]
  /** Milliseconds from the start until the last site was served. */
  readonly startMs: number
  stop(): Promise<void>
}

export type Setting = {
  readonly dir: string
  readonly sites: readonly Site[]
  readonly certificate: { readonly cert: string; readonly key: string }
  /** Where TCP connections go. */
  readonly tcpTo?: string
}

export async function makeSetting(sites: readonly Site[]): Promise<Setting> {
  const dir = await mkdtemp('/var/tmp/flynn-router-bench-')
  const { cert, private_key: key } = await createClusterCertificate(
    ['bench.test', '*.bench.test'],
    new Date(),
  )
  await writeFile(join(dir, 'pair.pem'), `${cert}${key}`)
  await writeFile(join(dir, 'cert.pem'), cert)
  await writeFile(join(dir, 'key.pem'), key)
  return { dir, sites, certificate: { cert, key } }
}

/** One process of nginx that answers 1 KB on every address of 127.0.0.0/8: as many backends as are asked for. */
export async function startOrigin(dir: string): Promise<{ readonly port: number; stop(): Promise<void> }> {
  const port = await freePort()
  const body = 'x'.repeat(1024)
  const config = `worker_processes 1; daemon off; pid ${dir}/origin.pid; error_log stderr crit; worker_rlimit_nofile 20000;
events { worker_connections 19000; }
http { access_log off; keepalive_requests 1000000; keepalive_timeout 600; client_body_temp_path ${dir}; proxy_temp_path ${dir}; fastcgi_temp_path ${dir}; uwsgi_temp_path ${dir}; scgi_temp_path ${dir};
server { listen ${port} backlog=4096; location / { return 200 "${body}"; } location = /big { alias ${dir}/big; } } }
`
  await writeFile(join(dir, 'origin.conf'), config)
  const child = start([...pin(loadCpu), 'nginx', '-c', join(dir, 'origin.conf')])
  await listening(port)
  return { port, stop: () => end(child) }
}

function start(argv: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
  const [program = '', ...args] = argv
  return spawn(program, args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { PATH: process.env['PATH'] ?? '', ...env },
  })
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return
  const ended = new Promise(resolve => child.once('exit', resolve))
  child.kill('SIGTERM')
  await ended
}

async function listening(port: number): Promise<void> {
  const open = () =>
    new Promise<boolean>(resolve => {
      const socket = connect(port, '127.0.0.1')
      socket.once('connect', () => resolve(true))
      socket.once('error', () => resolve(false))
      socket.once('connect', () => socket.destroy())
    })
  await poll(open, { timeoutMs: startTimeoutMs, intervalMs: 10, what: `port ${port}` })
}

/** Waits until the last site answers; milliseconds since `began`. */
async function served(port: number, setting: Setting, began: number): Promise<number> {
  const host = setting.sites.at(-1)?.host ?? ''
  const ok = () =>
    new Promise<boolean>(resolve => {
      const socket = connect(port, '127.0.0.1', () =>
        socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`),
      )
      let text = ''
      socket.setEncoding('latin1')
      socket.on('data', chunk => {
        text += String(chunk)
      })
      socket.on('error', () => resolve(false))
      socket.on('close', () => resolve(/^HTTP\/1\.1 200/.test(text)))
    })
  await poll(ok, { timeoutMs: startTimeoutMs, intervalMs: 20, what: `${host} on ${port}` })
  return performance.now() - began
}

/** The router's two processes with the control plane away: it serves the table that it is given as its snapshot. */
export async function startOurs(setting: Setting): Promise<MeasuredProxy> {
  const dir = join(setting.dir, 'ours')
  await mkdir(dir)
  const [plain, tls, api, tcp] = [await freePort(), await freePort(), await freePort(), await freePort()]
  const routes = [
    ...setting.sites.map((s, n) => http(s.host, { service: `s${n}`, id: `route-${n}` })),
    ...(setting.tcpTo ? [tcpRoute(tcp, { service: 'tcp' })] : []),
  ]
  const services = {
    ...Object.fromEntries(setting.sites.map((s, n) => [`s${n}`, [s.addr]])),
    ...(setting.tcpTo ? { tcp: [setting.tcpTo] } : {}),
  }
  await writeFile(join(dir, 'table.json'), renderSnapshot(tableOf(routes, services)))
  const main = fileURLToPath(new URL('../../../router/main.ts', import.meta.url))
  const flags = {
    'http-port': plain,
    'https-port': tls,
    'api-port': api,
    'tcp-range-start': tcp,
    'tcp-range-end': tcp,
  }
  const began = performance.now()
  const haproxy = keepHaproxy(dir, pin(proxyCpu))
  const args = Object.entries(flags).flatMap(([k, v]) => [`--${k}`, String(v)])
  const control = start([...pin(proxyCpu), process.execPath, main, ...args], {
    DISCOVERD: `http://127.0.0.1:${await freePort()}`,
    LISTEN_IP: '127.0.0.1',
    ROUTER_DIR: dir,
    ROUTER_STATE_DIR: dir,
    COOKIE_KEY: Buffer.alloc(32, 1).toString('base64'),
    TLSCERT: setting.certificate.cert,
    TLSKEY: setting.certificate.key,
    LOG_LEVEL: 'fatal',
  })
  const startMs = await served(plain, setting, began)
  return {
    name: 'ours',
    http: plain,
    https: tls,
    ...(setting.tcpTo ? { tcp } : {}),
    startMs,
    pids: () => [haproxy.pid() ?? 0, control.pid ?? 0],
    async stop() {
      await end(control)
      await haproxy.stop()
    },
  }
}

export async function startHaproxy(setting: Setting): Promise<MeasuredProxy> {
  const dir = join(setting.dir, 'bare')
  await mkdir(dir)
  const [plain, tls, tcp] = [await freePort(), await freePort(), await freePort()]
  const map = setting.sites.map((s, n) => `${s.host}/ b${n}`).join('\n')
  await writeFile(join(dir, 'routes.map'), `${map}\n`)
  const backends = setting.sites.map(
    (s, n) => `backend b${n}\n  balance random(2)\n  server s ${s.addr} pool-purge-delay 30s\n`,
  )
  const rules = [
    'http-request set-var(txn.host) req.hdr(host),lower,field(1,:)',
    'http-request set-var(txn.path) path,concat(/)',
    `http-request set-var(txn.to) var(txn.host),concat(,txn.path),map_beg(${dir}/routes.map)`,
    'http-request return status 404 if !{ var(txn.to) -m found }',
    'acl id_ok req.hdr(x-request-id) -m reg ^[a-zA-Z0-9+/=-]{20,200}$',
    'http-request set-header X-Request-Id %[uuid()] if !id_ok',
    'http-request set-header X-Request-Start %[date(0,ms)]',
    'http-request set-header X-Forwarded-For %[src]',
    'http-request set-header X-Forwarded-Proto https if { ssl_fc }',
    'http-request set-header X-Forwarded-Proto http if !{ ssl_fc }',
    'http-request set-header X-Forwarded-Port %[dst_port]',
    'use_backend %[var(txn.to)]',
  ]
  const config = `global
  log stdout format raw local0
  tune.bufsize 32768
  tune.ssl.cachesize 20000
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 250ms
  timeout client 300s
  timeout server 600s
  timeout http-request 60s
  option redispatch 1
  option idle-close-on-response
  option splice-auto
  retries 3
  retry-on conn-failure empty-response
  http-reuse always
frontend http
  bind 127.0.0.1:${plain} backlog 4096
  bind 127.0.0.1:${tls} backlog 4096 ssl crt ${setting.dir}/pair.pem alpn h2,http/1.1
  log global
  log-format "%ci %b/%s %Ta %ST %B %HM %HU %[capture.req.hdr(0)]"
  http-request capture req.hdr(x-request-id) len 64
${rules.map(r => `  ${r}`).join('\n')}
${backends.join('')}${setting.tcpTo ? `listen tcp\n  mode tcp\n  bind 127.0.0.1:${tcp}\n  server s ${setting.tcpTo}\n` : ''}`
  await writeFile(join(dir, 'haproxy.cfg'), config)
  const began = performance.now()
  const child = start([...pin(proxyCpu), 'haproxy', '-db', '-q', '-f', join(dir, 'haproxy.cfg')])
  const startMs = await served(plain, setting, began)
  return { ...proxyOf('haproxy', plain, tls, child, startMs), ...(setting.tcpTo ? { tcp } : {}) }
}

function proxyOf(
  name: string,
  plain: number,
  tls: number,
  child: ChildProcess,
  startMs: number,
): MeasuredProxy {
  return { name, http: plain, https: tls, startMs, pids: () => [child.pid ?? 0], stop: () => end(child) }
}

export async function startNginx(setting: Setting): Promise<MeasuredProxy> {
  const dir = join(setting.dir, 'nginx')
  await mkdir(dir)
  const [plain, tls] = [await freePort(), await freePort()]
  const upstreams = setting.sites.map((s, n) => `upstream u${n} { server ${s.addr}; keepalive 16; }`)
  const map = setting.sites.map((s, n) => `${s.host} u${n};`)
  const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(k => `${k}_temp_path ${dir}/${k};`)
  const config =
    `worker_processes 1; daemon off; pid ${dir}/pid; error_log stderr crit; worker_rlimit_nofile 20000;
events { worker_connections 19000; }
http {
  ${temp.join(' ')}
  map_hash_max_size 65536; map_hash_bucket_size 128;
  log_format told '$remote_addr $host $status $body_bytes_sent $request_time $request $request_id';
  access_log ${dir}/access.log told buffer=64k;
  keepalive_requests 1000000; keepalive_timeout 300;
  map $http_upgrade $upgrading { default upgrade; '' ''; }
  map $host $to { ${map.join('\n')} }
  ${upstreams.join('\n')}
  server {
    listen 127.0.0.1:${plain} backlog=4096; listen 127.0.0.1:${tls} ssl http2 backlog=4096;
    ssl_certificate ${setting.dir}/cert.pem; ssl_certificate_key ${setting.dir}/key.pem;
    ssl_session_cache shared:tls:10m; http2_max_requests 100000000;
    location / {
      if ($to = '') { return 404; }
      proxy_pass http://$to; proxy_http_version 1.1; proxy_set_header Connection $upgrading; proxy_set_header Upgrade $http_upgrade; proxy_buffering off; proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Port $server_port; proxy_set_header X-Request-Id $request_id;
      proxy_set_header X-Request-Start $msec;
    }
  }
}
`.replace(' http2_max_requests 100000000;', '')
  await writeFile(join(dir, 'nginx.conf'), config)
  const began = performance.now()
  const child = start([...pin(proxyCpu), 'nginx', '-c', join(dir, 'nginx.conf')])
  const startMs = await served(plain, setting, began)
  return proxyOf('nginx', plain, tls, child, startMs)
}

export async function startCaddy(setting: Setting): Promise<MeasuredProxy> {
  const dir = join(setting.dir, 'caddy')
  await mkdir(dir)
  const [plain, tls] = [await freePort(), await freePort()]
  const headers = [
    'X-Request-Id {http.request.uuid}',
    'X-Request-Start {time.now.unix_ms}',
    'X-Forwarded-Port {port}',
  ]
  const ups = headers.map(h => `header_up ${h}`).join('\n')
  const site = (s: Site) => `@${s.host.replaceAll('.', '_')} host ${s.host}
handle @${s.host.replaceAll('.', '_')} {
reverse_proxy ${s.addr} {
${ups}
}
}`
  const handles = setting.sites.map(site).join('\n')
  const log = `log {\noutput file ${dir}/access.log\n}`
  const config = `{
admin off
auto_https off
storage file_system ${dir}
}
http://:${plain} {
bind 127.0.0.1
${log}
${handles}
}
https://:${tls} {
bind 127.0.0.1
tls ${setting.dir}/cert.pem ${setting.dir}/key.pem
${log}
${handles}
}
`
  await writeFile(join(dir, 'Caddyfile'), config)
  const began = performance.now()
  const argv = [
    ...pin(proxyCpu),
    'caddy',
    'run',
    '--config',
    join(dir, 'Caddyfile'),
    '--adapter',
    'caddyfile',
  ]
  const child = spawn(argv[0] ?? '', argv.slice(1), {
    stdio: 'ignore',
    env: { PATH: process.env['PATH'], HOME: dir, GOMAXPROCS: '1' },
  })
  const startMs = await served(plain, setting, began)
  return proxyOf('caddy', plain, tls, child, startMs)
}

export async function removeSetting(setting: Setting): Promise<void> {
  await rm(setting.dir, { recursive: true, force: true })
}
