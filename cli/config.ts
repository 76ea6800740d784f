// The configuration file ~/.flynnrc: which clusters this person has (contract cli.md 4). Written whole and renamed,
// readable by its owner only, because it holds keys.
import { chmod, readFile, rename, writeFile } from 'node:fs/promises'
import { parse } from 'smol-toml'
import { errors } from './errors.ts'

export type Cluster = {
  readonly Name: string
  readonly OAuthURL?: string
  readonly Key?: string
  readonly TLSPin?: string
  readonly ControllerURL: string
  readonly GitURL: string
  readonly ImageURL: string
  readonly DockerPushURL?: string
}

export type Config = { readonly default: string; readonly clusters: readonly Cluster[] }

const fields = [
  'Name',
  'OAuthURL',
  'Key',
  'TLSPin',
  'ControllerURL',
  'GitURL',
  'ImageURL',
  'DockerPushURL',
] as const
const always: ReadonlySet<string> = new Set(['Name', 'ControllerURL', 'GitURL', 'ImageURL'])

function lowerKeys(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return {}
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k.toLowerCase(), v]))
}

function toCluster(value: unknown): Cluster {
  const given = lowerKeys(value)
  const pairs = fields.flatMap(field => {
    const text = given[field.toLowerCase()]
    if (typeof text === 'string' && text !== '') return [[field, text] as const]
    return always.has(field) ? [[field, ''] as const] : []
  })
  return Object.fromEntries(pairs) as unknown as Cluster
}

/** Keys are read in any case; unknown ones are dropped. A missing file is an empty configuration. */
export function parseConfig(text: string, path: string): Config {
  let value: unknown
  try {
    value = parse(text)
  } catch (e) {
    // Its first line says what, the rest is an excerpt, in which keys may stand.
    const [what = ''] = (e instanceof Error ? e.message : String(e))
      .replace(/^Invalid TOML document: /, '')
      .split('\n')
    const line = e instanceof Error && 'line' in e ? `line ${e.line}: ` : ''
    throw errors.CONFIG_SYNTAX({ path, reason: `${line}${what}` })
  }
  const top = lowerKeys(value)
  const clusters = Array.isArray(top['cluster']) ? top['cluster'].map(toCluster) : []
  return { default: typeof top['default'] === 'string' ? top['default'] : '', clusters }
}

function quote(text: string): string {
  return JSON.stringify(text)
}

/** The original's layout, so that either program's file reads the same. */
export function renderConfig(config: Config): string {
  if (config.clusters.length === 0) return ''
  const blocks = config.clusters.map(cluster => {
    const lines = fields
      .filter(field => always.has(field) || cluster[field])
      .map(field => `  ${field} = ${quote(cluster[field] ?? '')}\n`)
    return `[[cluster]]\n${lines.join('')}`
  })
  return `default = ${quote(config.default)}\n\n${blocks.join('\n')}\n`
}

export async function loadConfig(path: string): Promise<Config> {
  try {
    return parseConfig(await readFile(path, 'utf8'), path)
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return { default: '', clusters: [] }
    throw e
  }
}

export async function saveConfig(path: string, config: Config): Promise<void> {
  const temporary = `${path}.${process.pid}`
  await writeFile(temporary, renderConfig(config), { mode: 0o600 })
  await chmod(temporary, 0o600)
  await rename(temporary, path)
}

export type AddOptions = { readonly force: boolean; readonly makeDefault: boolean }

/** Adds or, when forced, replaces the one entry that it conflicts with (contract cli.md 4). */
export function addCluster(config: Config, cluster: Cluster, options: AddOptions, path: string): Config {
  const conflicts = new Set<Cluster>()
  let reason = errors.CLUSTER_EXISTS({ name: cluster.Name, path })
  for (const field of ['Name', 'GitURL', 'ControllerURL', 'DockerPushURL'] as const) {
    const same = config.clusters.find(c => cluster[field] && c[field] === cluster[field])
    if (!same) continue
    if (conflicts.size === 0 && field !== 'Name')
      reason = errors.CLUSTER_URL_EXISTS({ url: cluster[field] ?? '', path })
    conflicts.add(same)
  }
  if (conflicts.size > 1 || (conflicts.size === 1 && !options.force)) throw reason
  const clusters = [...config.clusters.filter(c => !conflicts.has(c)), cluster]
  const replaced = [...conflicts].some(c => c.Name === config.default)
  const isDefault = options.makeDefault || clusters.length === 1 || replaced
  return { default: isDefault ? cluster.Name : config.default, clusters }
}
