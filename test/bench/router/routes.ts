// How long a new route takes until every router serves it, asked for at the controller's API with so many routes there
// already; and how long a router takes to start with as many routes and certificates, and what it then holds in memory.
// `node test/bench/router/routes.ts [--routes 10,1000,10000] [--adds 100] [--routers 3]`.
import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { parseArgs } from 'node:util'
import * as x509 from '@peculiar/x509'
import pg from 'pg'
import { poll } from '../../../pkg/clock/clock.ts'
import { clientConfig, pgOptionsFromEnv } from '../../../pkg/pg/pg.ts'
import { table } from '../../../pkg/table/table.ts'
import { type Platform, startPlatform } from '../../fixtures/platform.ts'
import { freePort } from '../../fixtures/ports.ts'
import { exchange } from '../../fixtures/router.ts'
import { type RouterProcess, startRouterProcess } from '../../fixtures/router-process.ts'
import { percentile } from '../stats.core.ts'
import { memoryMb } from './load.ts'

const servedTimeoutMs = 120_000
/** That the routes lead to in turn; a router watches each. */
const services = 100
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

type Pairs = { readonly key: string; readonly certs: readonly string[] }

/** As many certificates of one key, each for its own name. */
async function certificates(count: number): Promise<Pairs> {
  x509.cryptoProvider.set(webcrypto as never)
  const keys = (await webcrypto.subtle.generateKey(algorithm, true, [
    'sign',
    'verify',
  ])) as webcrypto.CryptoKeyPair
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64')
  const certs: string[] = []
  for (let n = 0; n < count; n++) {
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: (n + 1).toString(16).padStart(8, '0'),
      name: `CN=h${n}.bench.test`,
      notBefore: new Date(Date.now() - 3_600_000),
      notAfter: new Date(Date.now() + 90 * 86_400_000),
      keys: keys as never,
      signingAlgorithm: algorithm,
      extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: `h${n}.bench.test` }])],
    })
    certs.push(`${certificate.toString('pem')}\n`)
  }
  return { key: `-----BEGIN PRIVATE KEY-----\n${pkcs8}\n-----END PRIVATE KEY-----\n`, certs }
}

/** Straight into the tables: ten thousand requests to the API are not what is measured. */
async function fill(platform: Platform, appId: string, from: number, pairs: Pairs): Promise<void> {
  const database = new pg.Client(clientConfig(pgOptionsFromEnv(platform.controller.databaseEnv, 'bench')))
  await database.connect()
  try {
    await database.query(
      `WITH pairs AS (SELECT n + $2::integer AS n, cert FROM unnest($3::text[]) WITH ORDINALITY AS t (cert, n)),
        kept AS (INSERT INTO certificates (cert, key, cert_sha256)
          SELECT cert, $4, sha256(cert::bytea) FROM pairs RETURNING id, cert),
        routes AS (INSERT INTO http_routes (parent_ref, service, domain, path, port)
          SELECT 'controller/apps/' || $1, 'bench-' || (n % $5::integer), 'h' || (n - 1) || '.bench.test', '/', 0 FROM pairs
          RETURNING id, domain)
      INSERT INTO route_certificates (http_route_id, certificate_id)
        SELECT routes.id, kept.id FROM routes
          JOIN pairs ON routes.domain = 'h' || (pairs.n - 1) || '.bench.test'
          JOIN kept ON kept.cert = pairs.cert`,
      [appId, from, pairs.certs, pairs.key, services],
    )
  } finally {
    await database.end()
  }
}

async function serves(router: RouterProcess, host: string): Promise<boolean> {
  const request = `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`
  const answer = await exchange(router.ports.http, request, /\r\n\r\n/, router.ip)
  return answer.startsWith('HTTP/1.1 200')
}

async function addRoutes(
  platform: Platform,
  routers: readonly RouterProcess[],
  appId: string,
  prefix: string,
  count: number,
): Promise<readonly number[]> {
  const times: number[] = []
  for (let n = 0; n < count; n++) {
    const domain = `${prefix}-${n}.bench.test`
    const began = performance.now()
    await platform.client.createRoute(appId, {
      type: 'http',
      domain,
      service: 'bench-1',
      drain_backends: true,
    })
    const one = (router: RouterProcess) =>
      poll(() => serves(router, domain), { timeoutMs: servedTimeoutMs, intervalMs: 1, what: domain })
    await Promise.all(routers.map(one))
    times.push(performance.now() - began)
  }
  return times
}

function memoryOf(router: RouterProcess): { readonly haproxy: number; readonly control: number } {
  return { haproxy: memoryMb([router.haproxy.pid() ?? 0]), control: memoryMb([router.controlPid()]) }
}

async function listening(server: Server): Promise<number> {
  server.listen(0, '0.0.0.0')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

const load = () => readFileSync('/proc/loadavg', 'utf8').split(' ')[0] ?? ''

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      routes: { type: 'string', default: '10,1000,10000' },
      adds: { type: 'string', default: '100' },
      routers: { type: 'string', default: '3' },
    },
  })
  const sizes = values.routes.split(',').map(Number)
  const platform = await startPlatform(88)
  let routers: RouterProcess[] = []
  const rows: string[][] = []
  // One server on all addresses of 127.0.0.0/8.
  const backend = createServer((_req, res) => res.end('ok'))
  const registered: { close(): Promise<void> }[] = []
  const stopAll = async () => {
    const stopping = routers
    routers = []
    for (const router of stopping) await router.stop()
  }
  try {
    const app = await platform.client.createApp({ name: 'bench' })
    const port = await listening(backend)
    for (let n = 0; n < services; n++) {
      const addr = `127.2.0.${n + 1}:${port}`
      const service = `bench-${n}`
      registered.push(await platform.discoverd.client.register({ service, addr, create: true }))
    }
    let there = 0
    for (const size of sizes) {
      const pairs = await certificates(size)
      await fill(platform, app.id, there, { ...pairs, certs: pairs.certs.slice(there) })
      there = size
      const ports = {
        http: await freePort(),
        https: await freePort(),
        api: await freePort(),
        tcp: await freePort(),
      }
      const starts: number[] = []
      for (let n = 0; n < Number(values.routers); n++) {
        const began = performance.now()
        const ip = `${platform.net}.${20 + n}`
        const router = await startRouterProcess({ ip, ports, discoverd: platform.discoverd.url })
        routers.push(router)
        const last = `h${size - 1}.bench.test`
        await poll(() => serves(router, last), { timeoutMs: servedTimeoutMs, intervalMs: 10, what: last })
        starts.push(performance.now() - began)
      }
      const memory = memoryOf(routers[0] as RouterProcess)
      const times = await addRoutes(platform, routers, app.id, `new-${size}`, Number(values.adds))
      const at = (share: number) => percentile(times, share).toFixed(0)
      rows.push([
        String(size),
        at(0.5),
        at(0.99),
        percentile(starts, 0.5).toFixed(0),
        memory.haproxy.toFixed(0),
        memory.control.toFixed(0),
        load(),
      ])
      process.stdout.write(`${size} routes done\n`)
      await stopAll()
    }
  } finally {
    await stopAll()
    backend.closeAllConnections()
    backend.close()
    for (const registration of registered) await registration.close()
    await platform.remove()
  }
  const head = ['routes', 'add p50 ms', 'p99 ms', 'start ms', 'HAProxy MB', 'control MB', 'load average']
  process.stdout.write(
    `\n${table([head, ...rows])}\nadded at the controller, without a certificate, until all ${values.routers} routers serve it; those that are there have one each, ${services} services\n`,
  )
}

await main()
