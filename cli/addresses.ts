// Where an app is reached and what route ids look like, for the commands that show them.
import type { ControllerClient } from '../controller/client.ts'
import type { Route } from '../controller/types.ts'

type Secured = { readonly certificate?: unknown; readonly tls_cert?: string }

export function schemeOf(route: Secured): 'http' | 'https' {
  return route.certificate || route.tls_cert ? 'https' : 'http'
}

/** The address of the app's first HTTP route. */
export async function firstUrl(client: ControllerClient, app: string): Promise<string | undefined> {
  const route = (await client.appRoutes(app)).find(r => r.type === 'http')
  if (route === undefined) return undefined
  const port = route.port ? `:${route.port}` : ''
  const path = route.path === undefined || route.path === '/' ? '' : route.path
  return `${schemeOf(route)}://${route.domain}${port}${path}`
}

/** `<type>/<id>`, as paths and people have it. */
export function routeId(route: Pick<Route, 'type' | 'id'>): string {
  return `${route.type}/${route.id}`
}
