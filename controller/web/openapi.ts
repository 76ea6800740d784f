// GET /openapi.json: an OpenAPI 3.1 document made from the table of endpoints, so from the schemas that requests are
// checked against.
import type { TSchema } from 'typebox'
import { version } from '../../pkg/version/version.ts'
import type { Routes } from './context.ts'
import { type Endpoint, endpoints } from './endpoints.ts'

const errorSchema = {
  type: 'object',
  required: ['code', 'message', 'retry'],
  properties: {
    code: { type: 'string' },
    message: { type: 'string' },
    detail: {},
    retry: { type: 'boolean', description: 'repeating the same call may succeed and is safe' },
    remedy: { type: 'string' },
  },
}

/** The schema as plain JSON: typebox marks its own with symbols and hidden members. */
function plain(schema: TSchema): unknown {
  return JSON.parse(JSON.stringify(schema))
}

function okAnswer(endpoint: Endpoint): unknown {
  if (endpoint.answer === 'empty') return { description: 'done, or accepted; no body' }
  if (endpoint.answer === 'text') return { description: 'text', content: { 'text/plain': {} } }
  const item = endpoint.schema === undefined ? { type: 'object' } : plain(endpoint.schema)
  const list = endpoint.answer === 'list' || endpoint.answer === 'stream'
  const json = { 'application/json': { schema: list ? { type: 'array', items: item } : item } }
  const events = endpoint.answer === 'stream' ? { 'text/event-stream': {} } : {}
  return { description: 'as asked for', content: { ...json, ...events } }
}

function parametersOf(endpoint: Endpoint): readonly unknown[] {
  const names = [...endpoint.path.matchAll(/:(\w+)/g)].map(([, name]) => name ?? '')
  const schema = { type: 'string' }
  return [
    ...names.map(name => ({ name, in: 'path', required: true, schema })),
    ...Object.entries(endpoint.query ?? {}).map(([name, description]) => ({
      name,
      in: 'query',
      description,
      schema,
    })),
  ]
}

function operation(endpoint: Endpoint): unknown {
  const refusal = (description: string) => ({
    description,
    content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
  })
  return {
    summary: endpoint.summary,
    ...(endpoint.free ? { security: [] } : {}),
    parameters: parametersOf(endpoint),
    ...(endpoint.body === undefined
      ? {}
      : {
          requestBody: { required: true, content: { 'application/json': { schema: plain(endpoint.body) } } },
        }),
    responses: {
      200: okAnswer(endpoint),
      400: refusal('the request is wrong; `detail.field` names the field'),
      401: { description: 'no or wrong key; empty body' },
      404: { description: 'the object is not there; empty body' },
      default: refusal('the call failed'),
    },
  }
}

/** The document. */
export function openapiDocument(): Readonly<Record<string, unknown>> {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const endpoint of endpoints) {
    const path = endpoint.path.replaceAll(/:(\w+)/g, '{$1}')
    paths[path] = { ...paths[path], [endpoint.method.toLowerCase()]: operation(endpoint) }
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Flynn controller', version },
    security: [{ key: [] }, { token: [] }],
    paths,
    components: {
      schemas: { Error: errorSchema },
      securitySchemes: {
        key: { type: 'http', scheme: 'basic', description: 'a cluster key as the password; any user name' },
        token: { type: 'http', scheme: 'bearer' },
      },
    },
  }
}

export const openapiRoutes: Routes = server => {
  const document = openapiDocument()
  server.get('/openapi.json', () => document)
}
