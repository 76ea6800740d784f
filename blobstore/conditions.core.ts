// What a conditional or partial request gets, as a standard static file server decides it (RFC 9110 13 and 14; contract
// blobstore.md 1.2). Pure: headers and what is stored in, a decision out. Called by `api.ts`.
import type { BlobInfo } from './types.ts'

export type RequestConditions = {
  readonly ifMatch?: string | undefined
  readonly ifNoneMatch?: string | undefined
  readonly ifModifiedSince?: string | undefined
  readonly ifUnmodifiedSince?: string | undefined
  readonly ifRange?: string | undefined
  readonly range?: string | undefined
}

/** `length` bytes from `start` on. */
export type ByteRange = { readonly start: number; readonly length: number }

export type Decision =
  | { readonly kind: 'whole' }
  | { readonly kind: 'partial'; readonly ranges: readonly [ByteRange, ...ByteRange[]] }
  | { readonly kind: 'not-modified' }
  | { readonly kind: 'precondition-failed' }
  | { readonly kind: 'unsatisfiable' }

/** More ranges than this in one request are answered with the whole object. */
export const rangesMax = 64

function etags(header: string): string[] {
  return [...header.matchAll(/(?:W\/)?"[^"]*"/g)].map(m => m[0])
}

function matches(header: string, etag: string, compare: 'strong' | 'weak'): boolean {
  if (header.trim() === '*') return true
  return etags(header).some(tag => (compare === 'weak' ? tag.replace(/^W\//, '') === etag : tag === etag))
}

/** Header dates have whole seconds. Undefined when the header is no date, which is to be ignored. */
function changedSince(header: string, lastModified: Date): boolean | undefined {
  const since = Date.parse(header)
  if (Number.isNaN(since)) return undefined
  return Math.floor(lastModified.getTime() / 1000) > Math.floor(since / 1000)
}

function preconditions(conditions: RequestConditions, info: BlobInfo): Decision | undefined {
  const { ifMatch, ifNoneMatch, ifModifiedSince, ifUnmodifiedSince } = conditions
  if (ifMatch !== undefined) {
    if (!matches(ifMatch, info.etag, 'strong')) return { kind: 'precondition-failed' }
  } else if (ifUnmodifiedSince !== undefined && changedSince(ifUnmodifiedSince, info.lastModified)) {
    return { kind: 'precondition-failed' }
  }
  if (ifNoneMatch !== undefined) {
    if (matches(ifNoneMatch, info.etag, 'weak')) return { kind: 'not-modified' }
  } else if (ifModifiedSince !== undefined && changedSince(ifModifiedSince, info.lastModified) === false) {
    return { kind: 'not-modified' }
  }
  return undefined
}

function rangeStillHolds(ifRange: string, info: BlobInfo): boolean {
  if (ifRange.startsWith('"')) return ifRange === info.etag
  return Math.floor(Date.parse(ifRange) / 1000) === Math.floor(info.lastModified.getTime() / 1000)
}

/** One spec of a Range header: `a-b`, `a-`, `-n`. Undefined when malformed, null when beyond the end. */
function parseSpec(spec: string, size: number): ByteRange | null | undefined {
  const [, first = '', last = ''] = /^(\d*)-(\d*)$/.exec(spec.trim()) ?? []
  if (first === '' && last === '') return undefined
  if (first === '') {
    const length = Math.min(Number(last), size)
    return length === 0 ? null : { start: size - length, length }
  }
  const start = Number(first)
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1)
  if (last !== '' && Number(last) < start) return undefined
  return start >= size ? null : { start, length: end - start + 1 }
}

function parseRanges(header: string, size: number): Decision {
  const list = /^bytes=(.*)$/.exec(header)?.[1]
  if (list === undefined) return { kind: 'unsatisfiable' }
  const found: ByteRange[] = []
  let beyond = false
  for (const spec of list.split(',')) {
    if (spec.trim() === '') continue
    const range = parseSpec(spec, size)
    if (range === undefined) return { kind: 'unsatisfiable' }
    if (range === null) beyond = true
    else found.push(range)
  }
  const [first, ...rest] = found
  if (first === undefined) return beyond && size > 0 ? { kind: 'unsatisfiable' } : { kind: 'whole' }
  const total = found.reduce((sum, range) => sum + range.length, 0)
  // Overlapping ranges that add up to more than the object are an attack or a mistake.
  if (total > size || found.length > rangesMax) return { kind: 'whole' }
  return { kind: 'partial', ranges: [first, ...rest] }
}

/** Preconditions first, then the range, as RFC 9110 13.2.2 orders them. For GET and HEAD. */
export function decide(conditions: RequestConditions, info: BlobInfo): Decision {
  const failed = preconditions(conditions, info)
  if (failed) return failed
  if (conditions.range === undefined) return { kind: 'whole' }
  if (conditions.ifRange !== undefined && !rangeStillHolds(conditions.ifRange, info)) return { kind: 'whole' }
  return parseRanges(conditions.range, info.size)
}
