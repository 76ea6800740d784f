// Limits as people write and read them: memory=512MB cpu=1000 (contract cli.md 8.3).
import type { JobResources } from '../controller/types.ts'
import { errors } from './errors.ts'

const names: ReadonlySet<string> = new Set(['memory', 'cpu', 'temp_disk', 'max_fd', 'max_procs'])
const binary: ReadonlySet<string> = new Set(['memory', 'temp_disk'])
/** No container starts with less memory or temporary space. */
export const bytesMin = 8 * 1024 ** 2
const powers: Readonly<Record<string, number>> = { '': 0, k: 1, m: 2, g: 3, t: 4 }
const units = ['B', 'kB', 'MB', 'GB', 'TB']

/** What a job gets of what nobody limits; the controller fills in the same when it starts one. */
export const defaultLimits: Readonly<Record<string, number>> = {
  memory: 1024 ** 3,
  cpu: 1000,
  temp_disk: 100 * 1024 ** 2,
  max_fd: 10_000,
}

function amount(name: string, text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?$/i.exec(text)
  const power = powers[(match?.[2] ?? '').toLowerCase()]
  if (!match?.[1] || power === undefined) return undefined
  return Math.round(Number(match[1]) * (binary.has(name) ? 1024 : 1000) ** power)
}

/** `name=value` words as resources; memory and temp_disk in binary multiples, the rest in decimal ones. */
export function parseLimits(words: readonly string[]): JobResources {
  const resources: JobResources = {}
  for (const word of words) {
    const [name = '', text = ''] = word.split('=')
    const limit = names.has(name) ? amount(name, text) : undefined
    if (limit === undefined) throw errors.LIMIT_FORMAT({ text: word })
    if (binary.has(name) && limit < bytesMin) throw errors.LIMIT_SMALL({ text: word, least: bytes(bytesMin) })
    resources[name] = { request: limit, limit }
  }
  return resources
}

/** Four significant digits, the unit by 1024: 1GB, 1.5GB, 100MB. */
function bytes(value: number): string {
  let [rest, unit] = [value, 0]
  while (rest >= 1024 && unit < units.length - 1) [rest, unit] = [rest / 1024, unit + 1]
  return `${Number(rest.toPrecision(4))}${units[unit]}`
}

export function formatLimit(name: string, value: number): string {
  return binary.has(name) ? bytes(value) : String(value)
}

/** Limits in force by name: those given, and the defaults for the rest. */
export function effectiveLimits(resources: JobResources | undefined): Readonly<Record<string, number>> {
  const given = Object.entries(resources ?? {}).flatMap(([name, r]) => {
    const limit = r?.limit ?? r?.request
    return limit === undefined || limit === null ? [] : [[name, limit] as const]
  })
  return { ...defaultLimits, ...Object.fromEntries(given) }
}
