// What was not found, read off the request that was answered 404, and where to see what there is. Pure.

const kinds = [
  [/^\/apps\/[^/]+\/jobs\/([^/?]+)/, 'job', 'flynn ps -a lists those of the app'],
  [/^\/apps\/[^/]+\/routes\/(\w+\/[^/?]+)/, 'route', 'flynn route lists those of the app'],
  [/^\/apps\/[^/]+\/volumes\/([^/?]+)/, 'volume', 'flynn volume lists those of the app'],
  [/^(?:\/apps\/[^/]+)?\/releases\/([^/?]+)/, 'release', 'flynn release lists those of the app'],
  [/^\/providers\/[^/]+\/resources\/([^/?]+)/, 'resource', 'flynn resource lists those of the app'],
  [/^\/providers\/([^/?]+)/, 'provider', 'flynn provider lists those of the cluster'],
  [/^\/sinks\/([^/?]+)/, 'log sink', 'flynn cluster log-sink lists those of the cluster'],
  [/^\/deployments\/([^/?]+)/, 'deployment', 'flynn deployment lists those of the app'],
] as const

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** ` (there is no job "x"; flynn ps -a lists ...)` for the message of a 404; empty when it names none of these. */
export function missingHint(message: string): string {
  const [, path] = /^[A-Z]+ (\/\S*): HTTP 404/.exec(message) ?? []
  if (path === undefined) return ''
  for (const [pattern, kind, remedy] of kinds) {
    const [, id] = pattern.exec(path) ?? []
    if (id !== undefined) return ` (there is no ${kind} "${decoded(id)}"; ${remedy})`
  }
  return ''
}
