// The part of Go's text/template that prefixes of syslog sinks use (contract system-apps.md 2.5): text, `{{.Path.To}}` and
// `{{index .Map "key"}}` over the host's job. Pure. Called by message.core.ts.

/** The job as the original's templates name it. */
export type TemplateJob = {
  readonly ID: string
  readonly Partition: string
  readonly Metadata: Readonly<Record<string, string>>
  readonly Config: Readonly<Record<string, unknown>>
}

export type Template = (job: TemplateJob) => string

export const templateBytesMax = 10_000

type Part = string | ((job: TemplateJob) => unknown)

function lookUp(value: unknown, path: readonly string[]): unknown {
  let found = value
  for (const name of path) {
    if (typeof found !== 'object' || found === null) return undefined
    // Members of the wire form are in lower case, the original's fields in upper case.
    const members = found as Readonly<Record<string, unknown>>
    const snake = name.replaceAll(/(?<=[a-z])([A-Z])/g, '_$1').toLowerCase()
    found = Object.hasOwn(members, name)
      ? members[name]
      : Object.hasOwn(members, snake)
        ? members[snake]
        : undefined
  }
  return found
}

function action(text: string): Part | undefined {
  const path = /^((?:\.\w+)+)$/.exec(text)?.[1]
  if (path !== undefined) return job => lookUp(job, path.split('.').slice(1))
  const index = /^index\s+((?:\.\w+)+)\s+"((?:[^"\\]|\\.)*)"$/.exec(text)
  const [, map, key] = index ?? []
  if (map === undefined || key === undefined) return undefined
  return job => {
    const found = lookUp(job, map.split('.').slice(1))
    const name = key.replaceAll(/\\(.)/g, '$1')
    const isMap = typeof found === 'object' && found !== null && Object.hasOwn(found, name)
    return isMap ? (found as Readonly<Record<string, unknown>>)[name] : ''
  }
}

function shown(value: unknown): string {
  if (value === undefined || value === null) return ''
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}

/** A function that fills the template; undefined when it uses what we do not know. */
export function parseTemplate(text: string): Template | undefined {
  if (text.length > templateBytesMax) return undefined
  const parts: Part[] = []
  for (const [index, piece] of text.split(/\{\{-?\s*(.*?)\s*-?\}\}/s).entries()) {
    const part = index % 2 === 0 ? piece : action(piece)
    if (part === undefined || (index % 2 === 0 && piece.includes('{{'))) return undefined
    parts.push(part)
  }
  return job => parts.map(part => (typeof part === 'string' ? part : shown(part(job)))).join('')
}
