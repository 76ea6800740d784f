// Writes what HAProxy starts from. Each file is renamed into place and only when it changed; the configuration last,
// because its presence is what lets a first HAProxy start.
import { appendFile, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { renderConfig, unavailableAnswer } from './config.core.ts'
import { files, hopByHopScript, type RouterSettings } from './frontend.core.ts'
import {
  httpMapOf,
  type Layout,
  mapDifference,
  renderCertificateList,
  renderMap,
  tcpMapOf,
  wildcardMapOf,
} from './maps.core.ts'
import { ticketKeys } from './tickets.ts'

const certificateFile = (name: string) => join(files.certificates, `${name}.pem`)

export class LayoutFiles {
  readonly #settings: RouterSettings
  /** What each file holds, as far as this process wrote it. */
  readonly #written = new Map<string, string>()
  /** What each map's file holds; its lines may stand in another order. */
  readonly #maps = new Map<string, ReadonlyMap<string, string>>()
  /** Names of the certificates among them. */
  readonly #certificates = new Set<string>()
  /** Files of certificates that another process of before left, once this one has looked. */
  #inherited: Set<string> | undefined

  constructor(settings: RouterSettings) {
    this.#settings = settings
  }

  async write(layout: Layout): Promise<void> {
    const s = this.#settings
    await mkdir(s.dir, { recursive: true, mode: 0o755 })
    const { answer, body } = unavailableAnswer(s)
    await this.#file(files.unavailable, answer)
    await this.#file(files.unavailableBody, body)
    await this.#file(files.hopByHop, hopByHopScript)
    await this.#file(files.tickets, `${ticketKeys(s.cookieKey, new Date()).join('\n')}\n`)
    await this.#map(files.http, httpMapOf(layout))
    await this.#map(files.wildcard, wildcardMapOf(layout))
    await this.#map(files.tcp, tcpMapOf(layout))
    await this.#writeCertificates(layout)
    await this.#file(files.config, renderConfig(s, layout))
    await this.#removeUnused(layout)
  }

  /** A name never gets another text, so those that this process has written are as they should be. */
  async #writeCertificates({ desired }: Layout): Promise<void> {
    const s = this.#settings
    const dir = join(s.dir, files.certificates)
    await mkdir(dir, { recursive: true, mode: 0o700 })
    this.#inherited ??= new Set(await readdir(dir))
    if (s.defaultPem) {
      await this.#file(certificateFile('default'), s.defaultPem)
      this.#inherited.delete('default.pem')
    }
    for (const { name, pem } of desired.certificates.values()) {
      if (this.#certificates.has(name)) continue
      await this.#file(certificateFile(name), pem)
      this.#certificates.add(name)
      this.#inherited.delete(`${name}.pem`)
    }
    await this.#file(files.certificateList, renderCertificateList(s, desired))
  }

  /** Once no list names them. */
  async #removeUnused({ desired }: Layout): Promise<void> {
    const { dir } = this.#settings
    for (const name of this.#certificates) {
      if (desired.certificates.has(name)) continue
      await rm(join(dir, certificateFile(name)), { force: true })
      this.#written.delete(certificateFile(name))
      this.#certificates.delete(name)
    }
    for (const file of this.#inherited ?? []) {
      await rm(join(dir, files.certificates, file), { force: true })
      this.#inherited?.delete(file)
    }
  }

  /** What only grows has its new lines put at its end: the whole of ten thousand routes takes long to write. */
  async #map(name: string, map: ReadonlyMap<string, string>): Promise<void> {
    const held = this.#maps.get(name)
    const difference = held && mapDifference(held, map)
    const grownOnly = difference && difference.changed.size === 0 && difference.deleted.length === 0
    // Until it is known to be written.
    this.#maps.delete(name)
    if (!grownOnly) await this.#replace(name, renderMap(map))
    else if (difference.added.size > 0) await appendFile(this.#path(name), renderMap(difference.added))
    this.#maps.set(name, map)
  }

  async #file(name: string, text: string): Promise<void> {
    if (this.#written.get(name) === text) return
    await this.#replace(name, text)
    this.#written.set(name, text)
  }

  async #replace(name: string, text: string): Promise<void> {
    const path = this.#path(name)
    await writeFile(`${path}.new`, text, { mode: 0o600 })
    await rename(`${path}.new`, path)
  }

  #path(name: string): string {
    return join(this.#settings.dir, name)
  }
}

/** `shared`: also beside a HAProxy that has the port, as that of the release before this one may. */
export function canBind(host: string, port: number, shared: boolean): Promise<boolean> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ host, port, exclusive: true, reusePort: shared }, () => server.close(() => resolve(true)))
  })
}

/**
 * The TCP ports outside the range that HAProxy can bind: those it has already, and new ones that are free. One that
 * another program has would keep HAProxy from reading its files, so it is left out until the next change.
 */
export async function bindablePorts(
  s: RouterSettings,
  wanted: Iterable<number>,
  held: readonly number[],
  onTaken: (port: number) => void,
): Promise<readonly number[]> {
  const ports: number[] = []
  for (const port of wanted) {
    const inRange = s.tcpRange && port >= s.tcpRange.first && port <= s.tcpRange.last
    if (port === 0 || inRange) continue
    if (held.includes(port) || (await canBind(s.listenIp, port, true))) ports.push(port)
    else onTaken(port)
  }
  return ports.sort((a, b) => a - b)
}
