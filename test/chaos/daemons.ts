// The processes of a host by the names that plans use, and their pids as the host sees them.
import { readdirSync, readFileSync } from 'node:fs'
import type { TestHost } from '../cluster/types.ts'
import type { DaemonName } from './plan.core.ts'

type Fits = (argv: readonly string[]) => boolean

const bundle =
  (name: string): Fits =>
  ([program, ...args]) =>
    program !== '/.containerinit' && args.some(a => a.endsWith(`/${name}.mjs`))
const program =
  (pattern: RegExp, word?: string): Fits =>
  ([file = '', ...args]) =>
    pattern.test(file) && (word === undefined || args.includes(word))

const fits: Readonly<Record<DaemonName, Fits>> = {
  'flynn-host': bundle('flynn-host'),
  containerd: program(/^containerd$|\/containerd$/),
  discoverd: bundle('flynn-discoverd'),
  etcd: program(/^etcd$|\/etcd$/),
  haproxy: program(/^haproxy$|\/haproxy$/),
  router: bundle('flynn-router'),
  controller: bundle('flynn-controller-web'),
  scheduler: bundle('flynn-controller-scheduler'),
  worker: bundle('flynn-controller-worker'),
  patroni: program(/python3$/, '/bin/flynn_patroni.py'),
  postmaster: program(/\/bin\/postgres$/, '-D'),
}

/** Empty when the host is off or runs none. */
export function pidsOf(host: TestHost, daemon: DaemonName): readonly number[] {
  const found: number[] = []
  const proc = `/proc/${host.pid}/root/proc`
  if (host.pid === undefined) return found
  for (const entry of readdirSync(proc))
    if (/^\d+$/.test(entry) && fits[daemon](argvOf(`${proc}/${entry}/cmdline`))) found.push(Number(entry))
  return found
}

function argvOf(file: string): readonly string[] {
  try {
    return readFileSync(file, 'utf8').split('\0')
  } catch {
    return [] // It ended meanwhile.
  }
}
