// From rows to wire objects: "omit-empty" members are absent when they hold nothing (contract controller.md, notation).
import { isUuid } from '../../pkg/ids/ids.ts'

function isEmpty(value: unknown): boolean {
  if (value === null || value === undefined || value === '' || value === 0 || value === false) return true
  return typeof value === 'object' && Object.keys(value).length === 0
}

/** Without empty members, but for those named in `always`. */
export function omitEmpty<T>(value: Readonly<Record<string, unknown>>, always: readonly string[] = []): T {
  return Object.fromEntries(
    Object.entries(value).filter(([key, v]) => v !== undefined && (always.includes(key) || !isEmpty(v))),
  ) as T
}

/** Without null and undefined members; empty ones stay. */
export function omitNull<T>(value: Readonly<Record<string, unknown>>): T {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined && v !== null)) as T
}

const looseUuid = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/

/** True for what an id-or-name lookup tries as an id too (contract 1.8). */
export function maybeUuid(text: string): boolean {
  return looseUuid.test(text)
}

export { isUuid }
