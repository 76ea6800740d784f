// What routes may ask of the routers beyond the original's fields (types/routes.ts): kept as one document in a row, so
// that a table of the original gains one column only.
import { type Route, type RouteInput, RouteOptions } from '../types.ts'
import { fieldError } from './body.ts'

type Name = keyof RouteOptions
const names = Object.keys(RouteOptions.properties) as readonly Name[]
/** A TCP connection has no requests that could be looked into. */
const tcpNames: readonly Name[] = ['proxy_protocol']

/**
 * The options of a route after a request. What the request does not name stays, because older clients send routes back
 * without it; false and 0 take an option away. Throws a validation error for one that the type of route cannot have.
 */
export function optionsOf(
  type: Route['type'],
  input: RouteInput,
  current: RouteOptions = {},
): Readonly<Record<string, boolean | number>> {
  const options: Record<string, boolean | number> = {}
  for (const name of names) {
    const value = input[name] ?? current[name]
    if (!value) continue
    if (type === 'tcp' && !tcpNames.includes(name)) throw fieldError(name, 'is for http routes only')
    options[name] = value
  }
  return options
}
