// What was acknowledged must be there: every app, every row, and registers whose history some single order explains.
// Asked of a healed cluster; each function answers what is wrong, a line a fault.
import type { TestHost } from '../cluster/types.ts'
import type { Ledger, Write } from './ledger.ts'
import { checkRegister, glimpsesFault, type RegisterOperation, tellOperation } from './register.core.ts'
import type { Observer } from './state.ts'
import { controllerHeaders, readRegister } from './workload.ts'

const askTimeoutMs = 20_000
const namedMax = 10

export async function brokenPromises(observer: Observer, ledger: Ledger): Promise<string[]> {
  const found = await Promise.all([
    lostApps(observer, ledger.apps),
    lostRows(observer, ledger.rows),
    brokenRegisters(observer, ledger),
  ])
  return found.flat()
}

const firstHost = ({ cluster }: Observer): TestHost => cluster.machines.host(1)

function lost(what: string, writes: readonly Write[], there: ReadonlySet<string>): string[] {
  const gone = writes.filter(w => w.acknowledged && !there.has(w.name))
  if (gone.length === 0) return []
  const named = gone
    .slice(0, namedMax)
    .map(w => `${w.name} (via ${w.via} at ${Math.round(w.at)} ms: ${w.answer.slice(0, 60)})`)
  return [`${gone.length} acknowledged ${what} are lost: ${named.join(', ')}`]
}

async function lostApps({ wire, controllerKey, ...observer }: Observer, apps: readonly Write[]) {
  const answer = await wire.ask({
    url: `http://${firstHost({ ...observer, wire, controllerKey }).address}/apps`,
    headers: controllerHeaders(controllerKey),
    timeoutMs: askTimeoutMs,
  })
  if (answer.type !== 'answered' || answer.status !== 200) return ['the controller does not list its apps']
  const names = (JSON.parse(answer.text) as readonly { name: string }[]).map(a => a.name)
  return lost('apps', apps, new Set(names))
}

/** In the database that leads, by the app's own credentials. */
async function lostRows(observer: Observer, rows: readonly Write[]): Promise<string[]> {
  const host = firstHost(observer)
  const env = JSON.parse(await host.run(['flynn', '-a', 'guestbook', 'env', '--json'])) as Record<
    string,
    string
  >
  const leader = await observer.cluster.discoverd(host).leader('postgres', { timeoutMs: askTimeoutMs })
  if (!leader) return ['postgres has no leader']
  const [address = '', port = ''] = leader.addr.split(':')
  const printed = await host.run(['psql', '-At', '-c', 'SELECT name FROM entries'], {
    timeoutMs: askTimeoutMs,
    env: {
      PGHOST: address,
      PGPORT: port,
      PGUSER: env['PGUSER'] ?? '',
      PGPASSWORD: env['PGPASSWORD'] ?? '',
      PGDATABASE: env['PGDATABASE'] ?? '',
    },
  })
  return lost('rows', rows, new Set(printed.split('\n')))
}

/** Writes have an order; each daemon's reads go forward in it; at last all daemons show its end. */
async function brokenRegisters({ cluster, wire }: Observer, ledger: Ledger): Promise<string[]> {
  const found: string[] = []
  for (const [name, history] of ledger.registers) {
    const ends = await Promise.all(cluster.hosts.map(h => readRegister(wire, h, name)))
    if (new Set(ends.map(e => JSON.stringify(e))).size !== 1)
      found.push(`register ${name} ends differently: ${JSON.stringify(ends)}`)
    found.push(...registerFaults(name, history, ends[0]?.value))
    for (const [host, glimpses] of ledger.glimpses.get(name) ?? []) {
      const fault = glimpsesFault(glimpses)
      if (fault) found.push(`register ${name} on ${host} ${fault}`)
    }
  }
  return found
}

function registerFaults(
  name: string,
  history: readonly RegisterOperation[],
  end: string | undefined,
): string[] {
  const after = 1 + Math.max(0, ...history.map(op => op.answeredAt))
  const last = { client: 'the check', calledAt: after, answeredAt: after + 1, outcome: 'ok' } as const
  const verdict = checkRegister([...history, { ...last, kind: 'read', value: end ?? '' }])
  if (verdict.type === 'linearizable') return []
  if (verdict.type === 'undecided') return [`register ${name}: no verdict over ${history.length} operations`]
  return [
    `register ${name} is not linearizable: after ${verdict.order.length} operations none of these fits`,
    ...verdict.order.slice(-3).map(op => `  before: ${tellOperation(op)}`),
    ...verdict.stuck.slice(0, namedMax).map(op => `  stuck: ${tellOperation(op)}`),
  ]
}
