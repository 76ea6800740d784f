// GET /apps/:app/route-stats: what the routers counted in the last minute, for `flynn route`.
import { RouterClient } from '../../router/client.ts'
import type { RouteTraffic } from '../types.ts'
import { findApp } from './app-lookup.ts'
import { type Context, param, type Routes } from './context.ts'
import { listRoutes } from './route-rows.ts'
import { mergeStats } from './route-stats.core.ts'

/** A router that takes longer is left out of the sum. */
export const routerAnswerTimeoutMs = 1_500

async function traffic(ctx: Context, app: string): Promise<readonly RouteTraffic[]> {
  const { app_id } = await findApp(ctx.db, app)
  const routes = await listRoutes(ctx.db, app_id)
  const addrs = routes.length === 0 ? [] : await ctx.routers()
  const told = await Promise.all(
    addrs.map(addr =>
      new RouterClient(`http://${addr}`).routeStats(AbortSignal.timeout(routerAnswerTimeoutMs)).catch(err => {
        ctx.log.info({ err, router: addr }, 'router does not tell its figures')
        return undefined
      }),
    ),
  )
  return mergeStats(
    routes.map(r => r.id),
    told.filter(stats => stats !== undefined),
  )
}

export const routeStatsRoutes: Routes = (server, ctx) => {
  server.get('/apps/:app/route-stats', req => traffic(ctx, param(req, 'app')))
}
