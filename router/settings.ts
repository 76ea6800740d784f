// Environment and flags of the router (contract router.md 1) as checked settings.
import { readFile } from 'node:fs/promises'
import { errors } from './errors.ts'
import type { RouterSettings } from './frontend.core.ts'

export const defaultDir = '/run/flynn-router'
/** A directory of the host, so that the next job finds what this one served. */
export const defaultStateDir = '/var/lib/flynn-router'
const cookieKeyBytes = 32
const overlayNetwork = '100.100.0.0/16'

type Values = Readonly<Record<string, string | boolean | undefined>>
type Env = Readonly<Record<string, string | undefined>>

function port(name: string, text: string | boolean | undefined, fallback: number): number {
  if (text === undefined || text === '') return fallback
  const value = Number(text)
  if (!Number.isInteger(value) || value < 0 || value > 65_535)
    throw errors.PORT_INVALID({ name, value: String(text) })
  return value
}

function ports(name: string, text: string | undefined): readonly number[] {
  return (text ?? '')
    .split(',')
    .filter(t => t !== '')
    .map(t => port(name, t, 0))
    .filter(p => p !== 0)
}

/** Certificate and key from files named by flags, or from the environment. */
async function defaultPem(env: Env, flags: Values): Promise<string | undefined> {
  const [certFile, keyFile] = [flags['tls-cert'], flags['tls-key']]
  const cert = certFile ? await readFile(String(certFile), 'utf8') : env['TLSCERT']
  const key = keyFile ? await readFile(String(keyFile), 'utf8') : env['TLSKEY']
  return cert && key ? `${cert.trim()}\n${key.trim()}\n` : undefined
}

function cookieKey(text: string | undefined): string {
  if (!text) throw errors.COOKIE_KEY_MISSING()
  const bytes = Buffer.from(text, 'base64').length
  if (bytes !== cookieKeyBytes) throw errors.COOKIE_KEY_SIZE({ bytes })
  return text
}

/** Jobs reach the router by its host's address or over the overlay network, without a balancer in front. */
function exempt(env: Env): readonly string[] {
  const own = [env['EXTERNAL_IP'], env['LISTEN_IP']].filter(a => a && a !== '0.0.0.0')
  const given = env['PROXY_PROTOCOL_EXEMPT'] ?? ['127.0.0.0/8', overlayNetwork, ...own].join(',')
  return given.split(',').filter(network => /^[0-9a-fA-F.:]+(\/\d{1,3})?$/.test(network))
}

/** Rejects settings that cannot work, naming the variable or flag. */
export async function readSettings(env: Env, flags: Values): Promise<RouterSettings> {
  const httpPort = port('--http-port', env['DEFAULT_HTTP_PORT'] ?? flags['http-port'], 80)
  const httpsPort = port('--https-port', env['DEFAULT_HTTPS_PORT'] ?? flags['https-port'], 443)
  if (httpsPort === 0) throw errors.HTTPS_NEEDED()
  const first = port('--tcp-range-start', flags['tcp-range-start'], 3000)
  const last = port('--tcp-range-end', flags['tcp-range-end'], 3500)
  return {
    dir: env['ROUTER_DIR'] || defaultDir,
    listenIp: env['LISTEN_IP'] || '0.0.0.0',
    httpPort: httpPort === 0 ? undefined : httpPort,
    httpsPort,
    additionalHttpPorts: ports('ADDITIONAL_HTTP_PORTS', env['ADDITIONAL_HTTP_PORTS']),
    additionalHttpsPorts: ports('ADDITIONAL_HTTPS_PORTS', env['ADDITIONAL_HTTPS_PORTS']),
    tcpRange: first === 0 || last === 0 ? undefined : { first, last },
    proxyProtocol: env['PROXY_PROTOCOL'] === 'true',
    legacyTls: env['LEGACY_TLS'] === 'true',
    cookieKey: cookieKey(env['COOKIE_KEY']),
    defaultPem: await defaultPem(env, flags),
    haproxyUser: env['HAPROXY_USER'] || undefined,
    proxyExempt: exempt(env),
    accessLog: env['ACCESS_LOG'] !== 'false',
  }
}
