// The rules of the house about files, as pure functions over paths and sources: imports run downhill only, pure cores
// reach no clock, randomness or I/O, files stay small. structure.test.ts applies them to the checkout.
import { posix } from 'node:path'

/** Path from the checkout's root to source text. */
export type Sources = ReadonlyMap<string, string>
export type Import = { readonly from: string; readonly typeOnly: boolean; readonly names: readonly string[] }

export const fileLinesMax = 420
/** A table of cases reads well at a length at which a program does not. */
export const testLinesMax = 600
const bannedFolders = ['utils', 'util', 'helpers', 'helper', 'manager', 'managers']
/** They may import whatever they need: nothing imports them. */
const freeRooms = ['test', 'images']
/** What others may see of a component. */
const doors = ['client.ts', 'types.ts']

/**
 * Blanks comments and, when asked, the insides of strings, so that a pattern over the rest sees code only. Lengths and
 * line breaks stay.
 */
export function codeOnly(source: string, options: { readonly strings: 'keep' | 'blank' }): string {
  const pattern =
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\[\s\S]|[^`\\])*`|(?<=[(,=:[!&|?{};]\s*|return\s+)\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\//g
  return source.replaceAll(pattern, token => {
    const comment = token.startsWith('//') || token.startsWith('/*')
    if (!comment && options.strings === 'keep') return token
    if (token.startsWith('`')) return keepInterpolations(token)
    return token.replaceAll(/[^\n]/g, ' ')
  })
}

/** A template's `${...}` is code. */
function keepInterpolations(template: string): string {
  let depth = 0
  let kept = ''
  for (let i = 0; i < template.length; i++) {
    const char = template[i] ?? ''
    if (depth === 0 && char === '$' && template[i + 1] === '{') {
      depth = 1
      i++
      kept += '  '
    } else if (depth > 0) {
      if (char === '{') depth++
      if (char === '}') depth--
      kept += depth > 0 ? char : ' '
    } else kept += char === '\n' ? char : ' '
  }
  return kept
}

/** Static, re-exporting and dynamic imports with a literal name. */
export function importsOf(source: string): Import[] {
  const code = codeOnly(source, { strings: 'keep' })
  const found: Import[] = []
  const statement =
    /^[ \t]*(?:import|export)\s+(type\s+(?!from\b))?(?:[\w*{][^'"`;]*?\bfrom\s*)?['"]([^'"\n]+)['"]/gm
  for (const match of code.matchAll(statement))
    found.push({ from: match[2] ?? '', typeOnly: match[1] !== undefined, names: namesIn(match[0]) })
  for (const match of code.matchAll(/\bimport\(\s*['"]([^'"\n]+)['"]/g))
    found.push({ from: match[1] ?? '', typeOnly: false, names: [] })
  return found
}

/** Original names of `{ a, b as c }`; empty for every other form. */
function namesIn(statement: string): string[] {
  const list = /^\s*(?:import|export)\s*\{([^}]*)\}/.exec(statement)?.[1] ?? ''
  return list.split(',').flatMap(name => name.trim().split(/\s+as\s+/)[0] || [])
}

/** The component a file belongs to: `appliance/*` holds several, every other one is a folder at the root. */
export function componentOf(path: string): string {
  const parts = path.split('/')
  if (parts.length === 1) return ''
  return parts[0] === 'appliance' ? parts.slice(0, 2).join('/') : (parts[0] ?? '')
}

const isTest = (path: string) => path.endsWith('.test.ts')
const target = (path: string, imported: Import) => posix.join(posix.dirname(path), imported.from)

export function importViolations(sources: Sources): string[] {
  const found: string[] = []
  for (const [path, source] of sources) {
    const own = componentOf(path)
    if (freeRooms.includes(own)) continue
    for (const imported of importsOf(source)) {
      if (!imported.from.startsWith('.')) continue
      const to = target(path, imported)
      const other = componentOf(to)
      if (other === own || other === 'pkg' || (isTest(path) && other === 'test')) continue
      if (own === 'pkg') found.push(`${path} imports ${to}: pkg knows no component`)
      else if (freeRooms.includes(other)) found.push(`${path} imports ${to}: only tests import ${other}/`)
      else if (other !== '' && posix.dirname(to) === other && doors.includes(posix.basename(to))) continue
      else found.push(`${path} imports ${to}: only client.ts and types.ts of another component`)
    }
  }
  return found
}

/** Globals that make a function answer differently for the same arguments, or act on the world. */
const impure: readonly (readonly [name: string, pattern: RegExp])[] = [
  ['Date.now', /\bDate\s*\.\s*now\b/],
  ['new Date()', /\bnew\s+Date\s*(?:\(\s*\)|(?!\s*\())/],
  ['Date()', /(?<!\bnew\s+)(?<![.\w])Date\s*\(/],
  ['Math.random', /\bMath\s*\.\s*random\b/],
  ['performance', /(?<![.\w])performance\s*\./],
  // Not any member: "process" is also a noun of the platform.
  [
    'process',
    /(?<![.\w])process\s*\.\s*(?:env|argv|pid|hrtime|cwd|exit|exitCode|stdout|stderr|uptime|kill|on|nextTick)\b/,
  ],
  ['crypto', /(?<![.\w])crypto\s*\.\s*(?:randomUUID|getRandomValues)\b/],
  ['a timer', /(?<![.\w])(?:setTimeout|setInterval|setImmediate|queueMicrotask)\s*\(/],
  ['fetch', /(?<![.\w])fetch\s*\(/],
  ['console', /(?<![.\w])console\s*\./],
]
/** npm packages that only compute. */
const purePackages = ['typebox', 'ignore']
/** What may be taken from node:crypto: digests, no keys and no lots. */
const pureCrypto = ['createHash', 'createHmac', 'timingSafeEqual']

/** Follows the value imports of every `*.core.ts`: what a core reaches must be as pure as the core. */
export function coreViolations(sources: Sources): string[] {
  const found: string[] = []
  for (const path of sources.keys())
    if (path.endsWith('.core.ts')) followCore(sources, path, [], new Set(), found)
  return found
}

function followCore(
  sources: Sources,
  path: string,
  via: readonly string[],
  seen: Set<string>,
  found: string[],
): void {
  const source = sources.get(path)
  if (seen.has(path) || source === undefined) return
  seen.add(path)
  const chain = [...via, path].join(' -> ')
  const code = codeOnly(source, { strings: 'blank' })
  for (const [name, pattern] of impure) if (pattern.test(code)) found.push(`${chain} uses ${name}`)
  for (const imported of importsOf(source)) {
    if (imported.typeOnly) continue
    if (imported.from.startsWith('.'))
      followCore(sources, target(path, imported), [...via, path], seen, found)
    else if (!isPure(imported)) found.push(`${chain} imports ${imported.from}`)
  }
}

function isPure({ from, names }: Import): boolean {
  if (from === 'node:crypto') return names.length > 0 && names.every(n => pureCrypto.includes(n))
  return purePackages.includes(packageName(from))
}

const packageName = (specifier: string) =>
  specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')

export function sizeViolations(sources: Sources): string[] {
  const found: string[] = []
  for (const [path, source] of sources) {
    const lines = source.split('\n').length - (source.endsWith('\n') ? 1 : 0)
    const max = isTest(path) ? testLinesMax : fileLinesMax
    if (lines > max) found.push(`${path} has ${lines} lines; over ${max} it is two nouns`)
  }
  return found
}

export function folderViolations(paths: Iterable<string>): string[] {
  const found = new Set<string>()
  for (const path of paths) {
    const folders = posix.dirname(path).split('/')
    const banned = folders.find(f => bannedFolders.includes(f))
    if (banned) found.add(`${posix.dirname(path)}: "${banned}" says nothing; name the noun`)
  }
  return [...found]
}
