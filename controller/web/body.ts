// Request bodies to typed values (contract controller.md 1.5, 2.2): null counts as absent, keys that a schema does not
// name are dropped before the check, and the first thing wrong is named with its field and what would be right.
import type { FastifyRequest } from 'fastify'
import type { Static, TSchema } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { type FlynnError, invariant } from '../../pkg/errors/errors.ts'
import { httpErrors } from '../../pkg/httpd/httpd.ts'
import { errors } from '../errors.ts'
import { endpointOf } from './endpoints.ts'

type Schema = {
  readonly type?: string
  readonly properties?: Readonly<Record<string, Schema>>
  readonly patternProperties?: Readonly<Record<string, Schema>>
  readonly items?: Schema
  readonly description?: string
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The value without nulls and without keys that the schema does not name; free-form members are left alone. */
export function tidy(schema: TSchema | Schema, value: unknown): unknown {
  const { properties, patternProperties, items } = schema as Schema
  if (properties && isRecord(value)) {
    const out: Record<string, unknown> = {}
    for (const [key, member] of Object.entries(properties)) {
      const given = Object.hasOwn(value, key) ? value[key] : undefined
      if (given !== null && given !== undefined) out[key] = tidy(member, given)
    }
    return out
  }
  const member = patternProperties && Object.values(patternProperties)[0]
  if (member && isRecord(value)) {
    const entries = Object.entries(value).filter(([, v]) => v !== null)
    return Object.fromEntries(entries.map(([k, v]) => [k, tidy(member, v)]))
  }
  if (items && Array.isArray(value)) return value.map(v => tidy(items, v))
  return value
}

/** Levels of objects and lists in a body. */
export const bodyDepthMax = 100

/** Whether a JSON text has more levels than that; looks at the text only, so that no parser runs out of stack. */
export function isTooDeep(text: string): boolean {
  let depth = 0
  let inText = false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (inText) {
      if (code === 0x5c) i++
      else if (code === 0x22) inText = false
    } else if (code === 0x22) inText = true
    else if (code === 0x7b || code === 0x5b) {
      depth++
      if (depth > bodyDepthMax) return true
    } else if (code === 0x7d || code === 0x5d) depth--
  }
  return false
}

const compiled = new Map<TSchema, Validator>()

function validatorOf(schema: TSchema): Validator {
  let validator = compiled.get(schema)
  if (!validator) {
    validator = Compile(schema)
    compiled.set(schema, validator)
  }
  return validator
}

/** A 400 that names the field. */
export function fieldError(
  field: string,
  text: string,
  remedy = `correct ${field} and send it again`,
): FlynnError {
  return errors.VALIDATION_ERROR({ field, text, remedy }, { detail: { field } })
}

type Problem = {
  readonly keyword: string
  readonly instancePath: string
  readonly params: Readonly<Record<string, unknown>>
  readonly message?: string
}

/** What the schema says in words of the value at a path. */
function wordsAt(schema: Schema, path: readonly string[]): string | undefined {
  const [first, ...rest] = path
  if (first === undefined) return schema.description
  const member =
    schema.properties?.[first] ?? Object.values(schema.patternProperties ?? {})[0] ?? schema.items
  return member && wordsAt(member, rest)
}

function describe(problem: Problem, schema: Schema): FlynnError {
  const path = problem.instancePath.split('/').filter(Boolean)
  const { params } = problem
  if (problem.keyword === 'required') {
    const missing = (params['requiredProperties'] as readonly string[] | undefined)?.[0] ?? ''
    return fieldError([...path, missing].join('.'), 'is required')
  }
  const field = path.join('.') || 'body'
  if (problem.keyword === 'enum') {
    const allowed = (params['allowedValues'] as readonly unknown[] | undefined)?.join(', ') ?? ''
    return fieldError(field, `must be one of ${allowed}`)
  }
  if (problem.keyword === 'pattern')
    return fieldError(field, `must be ${wordsAt(schema, path) ?? `of the form ${String(params['pattern'])}`}`)
  return fieldError(field, problem.message ?? 'is invalid')
}

export function parse<S extends TSchema>(schema: S, value: unknown): Static<S> {
  const tidied = tidy(schema, value)
  const validator = validatorOf(schema)
  if (validator.Check(tidied)) return tidied as Static<S>
  const problem = validator.Errors(tidied)[0] as Problem | undefined
  throw problem ? describe(problem, schema as Schema) : fieldError('body', 'is invalid')
}

/** The body of a request as a typed value; rejects with 400. The table of endpoints names the same schema. */
export function bodyOf<S extends TSchema>(req: FastifyRequest, schema: S): Static<S> {
  const { url } = req.routeOptions
  invariant(endpointOf(req.method, url)?.body === schema, 'endpoint_schema', `${req.method} ${url}`)
  if (req.body === undefined) {
    if (!(req.headers['content-type'] ?? '').includes('application/json')) throw httpErrors.CONTENT_TYPE()
    throw httpErrors.SYNTAX_ERROR()
  }
  return parse(schema, req.body)
}

/** For endpoints that refuse unknown keys. */
export function refuseUnknownKeys(req: FastifyRequest, known: readonly string[]): void {
  if (!isRecord(req.body)) return
  const unknown = Object.keys(req.body).find(key => !known.includes(key))
  if (unknown !== undefined)
    throw fieldError(unknown, 'is not a field of this object', `remove it; known are ${known.join(', ')}`)
}
