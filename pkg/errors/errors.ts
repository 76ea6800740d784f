// The error that crosses every border of the platform: a stable code, an HTTP status, a message that names
// what is wrong, and a remedy that says what to do. Each component declares its own table once with
// `errorTable` and throws only entries of it. Wire shape: contracts host.md 0.2, controller.md 1.7.

/** One row of a component's error table. `{name}` in a text is filled from the values given when it is thrown. */
export type ErrorRow = {
  /** Code on the wire; when absent the row's own key is used. */
  readonly code?: string
  readonly status: number
  readonly message: string
  readonly remedy?: string
  /** True only when repeating the same call may succeed and the failed call had no effect. */
  readonly retry?: boolean
}

export type ErrorValues = Readonly<Record<string, string | number>>

export type FlynnErrorOptions = {
  readonly code: string
  readonly status: number
  readonly message: string
  readonly remedy?: string | undefined
  readonly retry?: boolean | undefined
  readonly detail?: unknown
  readonly cause?: unknown
}

export class FlynnError extends Error {
  readonly code: string
  readonly status: number
  readonly remedy: string | undefined
  readonly retry: boolean
  readonly detail: unknown

  constructor(options: FlynnErrorOptions) {
    super(options.message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'FlynnError'
    this.code = options.code
    this.status = options.status
    this.remedy = options.remedy
    this.retry = options.retry ?? false
    this.detail = options.detail
  }
}

/** JSON body of an error answer; `remedy` is ours, the other members are the original's. */
export type ErrorBody = {
  readonly code: string
  readonly message: string
  readonly detail?: unknown
  readonly retry: boolean
  readonly remedy?: string
}

function fill(text: string, values: ErrorValues): string {
  return text.replaceAll(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole))
}

/** Turns a table of rows into throwable constructors: `const errors = errorTable({...}); throw errors.X({id})`. */
export function errorTable<Key extends string>(rows: Readonly<Record<Key, ErrorRow>>) {
  const make = (key: Key) => {
    const row = rows[key]
    return (values: ErrorValues = {}, extra: { detail?: unknown; cause?: unknown } = {}): FlynnError =>
      new FlynnError({
        code: row.code ?? key.toLowerCase(),
        status: row.status,
        message: fill(row.message, values),
        remedy: row.remedy === undefined ? undefined : fill(row.remedy, values),
        retry: row.retry,
        detail: extra.detail,
        cause: extra.cause,
      })
  }
  const table = {} as Record<Key, ReturnType<typeof make>>
  for (const key of Object.keys(rows) as Key[]) table[key] = make(key)
  return table
}

export function isFlynnError(e: unknown, code?: string): e is FlynnError {
  return e instanceof FlynnError && (code === undefined || e.code === code)
}

export function toErrorBody(e: FlynnError): ErrorBody {
  return {
    code: e.code,
    message: e.message,
    ...(e.detail === undefined ? {} : { detail: e.detail }),
    retry: e.retry,
    ...(e.remedy === undefined ? {} : { remedy: e.remedy }),
  }
}

/** So much of a cause's end says that a message quotes it, whatever it left out of the beginning. */
const quotedLength = 60

/** One line for people: the message, what caused it, and what to do. */
export function describeError(e: unknown): string {
  if (!(e instanceof Error)) return String(e)
  const told = e.cause instanceof Error && e.message.includes(e.cause.message.slice(-quotedLength))
  const cause = e.cause instanceof Error && !told ? `: ${e.cause.message}` : ''
  const text = `${e.message}${cause}`
  if (!(e instanceof FlynnError && e.remedy)) return text
  // What is wrong may end with a remedy of its own: one pair of brackets is enough.
  return / \([^()]*\)$/.test(text) ? `${text.slice(0, -1)}; ${e.remedy})` : `${text} (${e.remedy})`
}

/** Stops the component when something that must hold does not: crash the process, never the data. */
export function invariant(condition: unknown, code: string, detail?: unknown): asserts condition {
  if (condition) return
  throw new FlynnError({ code, status: 500, message: `invariant broken: ${code}`, detail })
}
