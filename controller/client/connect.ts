// Connections to a controller: plain TCP in the cluster, TLS from outside, where a pin (base64 SHA-256 of the leaf
// certificate) takes the place of chain and name checks (contract controller.md 1.4).
import { createHash } from 'node:crypto'
import { type Socket, connect as tcpConnect } from 'node:net'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import { FlynnError } from '../../pkg/errors/errors.ts'
import { type Agents, connectTimeoutCode, makeAgents } from '../../pkg/http/request.ts'

export const connectTimeoutMs = 5_000

export type ConnectOptions = {
  readonly tlsPin?: string | undefined
  /** Dials this host name or address instead of the URL's; Host header and SNI stay the URL's. */
  readonly address?: string | undefined
  /** PEM of an authority to trust besides the system's. */
  readonly ca?: string | undefined
}

function pinError(host: string): FlynnError {
  return new FlynnError({
    code: 'tls_pin_mismatch',
    status: 500,
    message: `the TLS certificate of ${host} does not match the pin`,
    remedy: 'add the cluster again with the pin that its bootstrap printed: flynn cluster add',
  })
}

function checkPin(socket: TLSSocket, pin: string, host: string): FlynnError | undefined {
  const leaf = socket.getPeerCertificate().raw
  const digest = leaf ? createHash('sha256').update(leaf).digest('base64') : ''
  return digest === pin ? undefined : pinError(host)
}

/** Opens a connection to the URL's host. Rejects at the deadline, on a wrong pin, and on an untrusted certificate. */
export function openSocket(url: URL, options: ConnectOptions): Promise<Socket> {
  const secure = url.protocol === 'https:'
  const host = options.address ?? url.hostname
  const port = Number(url.port || (secure ? 443 : 80))
  const pin = options.tlsPin
  return new Promise((resolve, reject) => {
    const socket = secure
      ? tlsConnect({
          host,
          port,
          servername: url.hostname,
          ALPNProtocols: ['http/1.1'],
          rejectUnauthorized: pin === undefined,
          ...(options.ca === undefined ? {} : { ca: options.ca }),
        })
      : tcpConnect({ host, port, noDelay: true })
    const fail = (e: Error) => {
      clearTimeout(timer)
      socket.destroy()
      reject(e)
    }
    const timer = setTimeout(() => {
      const e: NodeJS.ErrnoException = new Error(`no connection to ${host}:${port} in ${connectTimeoutMs} ms`)
      e.code = connectTimeoutCode
      fail(e)
    }, connectTimeoutMs)
    socket.once('error', fail)
    socket.once(secure ? 'secureConnect' : 'connect', () => {
      const bad = pin === undefined || !secure ? undefined : checkPin(socket as TLSSocket, pin, url.hostname)
      if (bad) {
        fail(bad)
        return
      }
      clearTimeout(timer)
      socket.off('error', fail)
      resolve(socket)
    })
  })
}

/** Connections made by `openSocket`; undefined when the usual ones will do. */
export function controllerAgents(options: ConnectOptions): Agents | undefined {
  if (options.tlsPin === undefined && options.address === undefined && options.ca === undefined)
    return undefined
  return makeAgents(url => openSocket(url, options))
}
