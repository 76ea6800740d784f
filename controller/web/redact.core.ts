// What of a request's body may be kept in the audit log: names, counts and shapes, no secrets. Pure. Called by audit.ts.

export const auditTextBytesMax = 300
export const auditDepthMax = 6
export const auditItemsMax = 50

/** Members whose values may be secret, whatever they are: their names stay, their values do not. */
const secretMaps = new Set(['env', 'config', 'template'])
const secretName = /key|secret|password|passwd|token|cert|credential|private/i
/** Free-form and big; who wants it finds it under its id. */
const leftOut = new Set(['manifest'])

const hidden = '[redacted]'

function mask(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return hidden
  if (depth >= auditDepthMax) return hidden
  return Object.fromEntries(
    Object.entries(value)
      .slice(0, auditItemsMax)
      .map(([name]) => [shorten(name), hidden]),
  )
}

function shorten(text: string): string {
  return text.length > auditTextBytesMax ? `${text.slice(0, auditTextBytesMax)}…` : text
}

/** The value with secrets replaced, long texts cut and deep or long parts left out. */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return shorten(value)
  if (typeof value !== 'object' || value === null) return value
  if (depth >= auditDepthMax) return '…'
  if (Array.isArray(value)) return value.slice(0, auditItemsMax).map(item => redact(item, depth + 1))
  const entries = Object.entries(value).slice(0, auditItemsMax)
  return Object.fromEntries(
    entries.map(([name, member]) => {
      if (leftOut.has(name)) return [name, '…']
      if (secretMaps.has(name) || secretName.test(name)) return [shorten(name), mask(member, depth + 1)]
      return [shorten(name), redact(member, depth + 1)]
    }),
  )
}
