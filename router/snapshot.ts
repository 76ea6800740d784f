// The table on disk, for a router that starts while neither controller nor discoverd answers. Holds private keys: mode
// 0600 in a directory of the host that only this job has. Written some seconds after a change, whole, by renaming.
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Route } from '../controller/types.ts'
import type { Instance } from '../discoverd/client.ts'
import type { Logger } from '../pkg/log/log.ts'
import type { ServiceState, Table } from './table.core.ts'

export const snapshotDelayMs = 2_000
/** What a write may take of the time between two: one of ten thousand routes with certificates has tens of megabytes. */
const writingShare = 1 / 20
const format = 'flynn-router-1'

/** Text of each part by the part itself: parts are never changed, so most of a large table is not made again. */
const texts = new WeakMap<object, string>()

function textOf(value: object): string {
  const known = texts.get(value)
  if (known !== undefined) return known
  const text = JSON.stringify(value)
  texts.set(value, text)
  return text
}

/** The file in parts of so many routes or services: between two of them other work goes on. */
const partEntries = 250

function* joined(texts: Iterable<string>): Generator<string, undefined> {
  let part = ''
  let count = 0
  for (const text of texts) {
    part += count === 0 ? text : `,\n${text}`
    count++
    if (count % partEntries !== 0) continue
    yield part
    part = ''
  }
  yield part
  return undefined
}

function* snapshotParts(table: Table): Generator<string, undefined> {
  yield `{"format":"${format}",\n"routes":[`
  yield* joined([...table.routes.values()].map(textOf))
  yield `],\n"services":{`
  yield* joined(
    [...table.services].map(([name, { instances, leaderId }]) => {
      const list = [...instances.values()].map(textOf)
      return `${JSON.stringify(name)}:{"leader":${JSON.stringify(leaderId ?? null)},"instances":[${list.join(',')}]}`
    }),
  )
  yield '}}\n'
  return undefined
}

export function renderSnapshot(table: Table): string {
  return [...snapshotParts(table)].join('')
}

type Saved = {
  readonly format: string
  readonly routes: readonly Route[]
  readonly services: Readonly<
    Record<string, { readonly leader: string | null; readonly instances: readonly Instance[] }>
  >
}

export function parseSnapshot(text: string): Table {
  const saved = JSON.parse(text) as Saved
  if (saved.format !== format) throw new Error(`not a snapshot of this version: ${saved.format}`)
  const services = new Map<string, ServiceState>()
  for (const [name, { leader, instances }] of Object.entries(saved.services)) {
    services.set(name, {
      instances: new Map(instances.map(i => [i.id, i])),
      leaderId: leader ?? undefined,
    })
  }
  return { routes: new Map(saved.routes.map(r => [`${r.type}/${r.id}`, r])), services }
}

/** Writes the newest table given, no more often than every `snapshotDelayMs`, and less often where it takes long. */
export class Snapshot {
  readonly #path: string
  readonly #log: Logger
  #next: Table | undefined
  #timer: NodeJS.Timeout | undefined
  #delayMs = snapshotDelayMs
  #writing: Promise<void> = Promise.resolve()

  constructor(path: string, log: Logger) {
    this.#path = path
    this.#log = log
  }

  /** Undefined when there is none that can be used. */
  async read(): Promise<Table | undefined> {
    try {
      return parseSnapshot(await readFile(this.#path, 'utf8'))
    } catch (err) {
      const missing = (err as NodeJS.ErrnoException).code === 'ENOENT'
      if (!missing) this.#log.warn({ err, path: this.#path }, 'snapshot cannot be used')
      return undefined
    }
  }

  save(table: Table): void {
    this.#next = table
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.#writing = this.#writing.then(() => this.#write())
    }, this.#delayMs)
  }

  /** Writes what is waiting. */
  async close(): Promise<void> {
    clearTimeout(this.#timer)
    await this.#writing.then(() => this.#write())
  }

  async #write(): Promise<void> {
    const table = this.#next
    this.#next = undefined
    if (!table) return
    const began = performance.now()
    try {
      await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 })
      await writeFile(`${this.#path}.new`, snapshotParts(table), { mode: 0o600 })
      await rename(`${this.#path}.new`, this.#path)
    } catch (err) {
      this.#log.warn({ err, path: this.#path }, 'snapshot not written')
    }
    this.#delayMs = Math.max(snapshotDelayMs, (performance.now() - began) / writingShare)
  }
}
