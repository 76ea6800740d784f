// What a name under `discoverd.` means: (question, services, order) -> answers. Pure; the server shuffles beforehand and
// gives the clock's seconds. Contract discoverd.md 11.
import {
  type DnsRecord,
  emptyResponse,
  type Query,
  type Response,
  rcodeNameError,
  typeA,
  typeAaaa,
  typeAny,
  typeSoa,
  typeSrv,
} from './dns-message.core.ts'
import { parseIp } from './ip.core.ts'
import type { Instance } from './types.ts'
import { splitHostPort } from './validate.core.ts'

export const udpInstancesMax = 3

export type DnsView = {
  /** Instances by age; undefined when there is no such service. */
  readonly instances: (service: string) => readonly Instance[] | undefined
  readonly leader: (service: string) => Instance | undefined
}

export type DnsContext = {
  readonly view: DnsView
  readonly transport: 'udp' | 'tcp'
  readonly recursive: boolean
  readonly unixSeconds: number
  readonly shuffle: <T>(list: readonly T[]) => readonly T[]
}

type Target =
  | { readonly kind: 'many'; readonly service: string; readonly proto?: string }
  | { readonly kind: 'one'; readonly service: string; readonly id: string }
  | { readonly kind: 'leader'; readonly service: string }

type Located = { readonly instance: Instance; readonly address: Uint8Array; readonly port: number }

export function inZone(name: string): boolean {
  return /(?:^|\.)discoverd$/i.test(name)
}

/** What a name in the zone asks for; undefined for names that mean nothing. */
export function targetOf(name: string): Target | undefined {
  const labels = name.toLowerCase().split('.').slice(0, -1)
  const [first = '', second = '', third = ''] = labels
  if (labels.includes('')) return undefined
  if (labels.length === 1) return { kind: 'many', service: first }
  if (labels.length === 2 && first.startsWith('_') && second.startsWith('_'))
    return { kind: 'many', service: first.slice(1), proto: second.slice(1) }
  if (labels.length === 2 && first === 'leader') return { kind: 'leader', service: second }
  if (labels.length === 3 && third === '_i') return { kind: 'one', service: second, id: first }
  return undefined
}

function locate(instance: Instance): Located | undefined {
  const split = splitHostPort(instance.addr)
  if (typeof split === 'string') return undefined
  const address = parseIp(split.host)
  const port = Number(split.port)
  return address ? { instance, address, port: port >= 0 && port <= 65_535 ? port : 0 } : undefined
}

function addressRecord(name: string, { address }: Located): DnsRecord {
  return { type: address.length === 4 ? typeA : typeAaaa, name, address }
}

const targetName = (service: string, { instance }: Located) => `${instance.id}.${service}._i.discoverd`

function wantsFamily(type: number, { address }: Located): boolean {
  if (type === typeA) return address.length === 4
  if (type === typeAaaa) return address.length === 16
  return true
}

/** Later instances at an address that an earlier one has, are dropped. */
function distinctAddresses(found: readonly Located[]): readonly Located[] {
  const seen = new Set<string>()
  return found.filter(l => {
    const key = l.address.join('.')
    if (seen.has(key)) return false
    seen.add(key)
    return true
  })
}

type Sections = { readonly answers: readonly DnsRecord[]; readonly additional: readonly DnsRecord[] }

function answerMany(query: Query, service: string, found: readonly Located[], context: DnsContext): Sections {
  const ofFamily = found.filter(l => wantsFamily(query.type, l))
  const distinct = query.type === typeSrv ? ofFamily : distinctAddresses(ofFamily)
  const shuffled = context.shuffle(distinct)
  const kept = context.transport === 'udp' ? shuffled.slice(0, udpInstancesMax) : shuffled
  const addresses = kept.map(l => addressRecord(query.name, l))
  const services = kept.map(
    (l): DnsRecord => ({
      type: typeSrv,
      name: query.name,
      port: l.port,
      target: targetName(service, l),
    }),
  )
  if (query.type === typeAny) return { answers: [...addresses, ...services], additional: [] }
  if (query.type !== typeSrv) return { answers: addresses, additional: [] }
  const additional =
    context.transport === 'tcp' ? kept.map(l => addressRecord(targetName(service, l), l)) : []
  return { answers: services, additional }
}

function answerOne(query: Query, found: Located, context: DnsContext): Sections {
  if (!wantsFamily(query.type, found)) return { answers: [], additional: [] }
  const address = addressRecord(query.name, found)
  const srv: DnsRecord = { type: typeSrv, name: query.name, port: found.port, target: query.name }
  if (query.type === typeAny) return { answers: [address, srv], additional: [] }
  if (query.type !== typeSrv) return { answers: [address], additional: [] }
  return { answers: [srv], additional: context.transport === 'tcp' ? [address] : [] }
}

/** Instances that a target stands for; undefined: the name does not exist. */
function find(target: Target, view: DnsView): readonly Instance[] | undefined {
  switch (target.kind) {
    case 'leader': {
      const leader = view.leader(target.service)
      return leader && [leader]
    }
    case 'one': {
      const one = view.instances(target.service)?.find(i => i.id === target.id)
      return one && [one]
    }
    case 'many':
      return view
        .instances(target.service)
        ?.filter(i => target.proto === undefined || i.proto === target.proto)
  }
}

/** The response to a question inside the zone. Every one without answers carries the SOA as authority. */
export function answer(query: Query, context: DnsContext): Response {
  const soa: DnsRecord = { type: typeSoa, serial: context.unixSeconds }
  const base: Response = { ...emptyResponse, authoritative: true, recursionAvailable: context.recursive }
  const target = targetOf(query.name)
  const instances = target && find(target, context.view)
  if (!target || !instances) return { ...base, rcode: rcodeNameError, authority: [soa] }
  if (query.type === typeSoa) return { ...base, answers: [soa] }
  if (![typeA, typeAaaa, typeAny, typeSrv].includes(query.type)) return { ...base, authority: [soa] }
  const found = instances.flatMap(i => locate(i) ?? [])
  const first = found[0]
  const sections =
    target.kind === 'many'
      ? answerMany(query, target.service, found, context)
      : first
        ? answerOne(query, first, context)
        : { answers: [], additional: [] }
  return { ...base, ...sections, authority: sections.answers.length === 0 ? [soa] : [] }
}
