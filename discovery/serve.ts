// Runs the token service until a signal: flags in, wiring. Called by main.ts and by `flynn-host discovery-server`.
import { parseArgs } from 'node:util'
import { createLogger } from '../pkg/log/log.ts'
import { discoveryServer } from './api.ts'
import { errors } from './errors.ts'
import { openStore, tokenIdleDaysMax } from './store.ts'

export const defaultListen = '0.0.0.0:1180'
export const defaultFile = '/var/lib/flynn/discovery.sqlite'

export const discoveryServerUsage = `usage: flynn-host discovery-server [--listen=<addr>] [--url=<url>] [--data=<file>]

Run a token service until SIGTERM, by which new hosts find each other: flynn-host init --init-discovery makes a
token there, flynn-host init --discovery TOKEN uses it. It may run anywhere that the hosts reach, also on one of
them. A token tells addresses only; joining takes the key of the cluster as well. Tokens end ${tokenIdleDaysMax} days after
their last use.

Options:
  --listen=<addr>  address and port [default: ${defaultListen}]
  --url=<url>      how hosts reach it, when that is through a proxy (for HTTPS, say)
  --data=<file>    file of the tokens [default: ${defaultFile}]

Examples:
  flynn-host discovery-server
  DISCOVERY_SERVER=http://192.0.2.10:1180 flynn-host init --init-discovery
`

type Flags = {
  readonly host: string
  readonly port: number
  readonly publicUrl: string | undefined
  readonly file: string
}

/** Rejects BAD_FLAG. */
export function discoveryFlags(argv: readonly string[]): Flags {
  const { values } = parseArgs({
    args: [...argv],
    options: { listen: { type: 'string' }, url: { type: 'string' }, data: { type: 'string' } },
  })
  const listen = values.listen ?? defaultListen
  const match = /^(.*):(\d{1,5})$/.exec(listen)
  const port = Number(match?.[2])
  if (!match || port > 65_535)
    throw errors.BAD_FLAG({ flag: '--listen', text: `must be ADDRESS:PORT, not ${listen}` })
  if (values.url !== undefined && !/^https?:\/\/[^/]/.test(values.url))
    throw errors.BAD_FLAG({ flag: '--url', text: 'must begin with http:// or https://' })
  return {
    host: (match[1] ?? '').replace(/^\[|\]$/g, '') || '0.0.0.0',
    port,
    publicUrl: values.url?.replace(/\/+$/, ''),
    file: values.data ?? defaultFile,
  }
}

/** Serves until SIGTERM or SIGINT. */
export async function runDiscoveryServer(argv: readonly string[]): Promise<void> {
  const { host, port, publicUrl, file } = discoveryFlags(argv)
  const log = createLogger({ component: 'discovery' })
  const store = openStore(file)
  const server = discoveryServer({ store, log, publicUrl })
  const signalled = new Promise<void>(resolve => {
    process.once('SIGTERM', () => resolve())
    process.once('SIGINT', () => resolve())
  })
  try {
    await server.listen({ host, port })
    log.info({ listen: `${host}:${port}`, file }, 'discovery server ready')
    await signalled
  } finally {
    await server.close()
    store.close()
  }
}
