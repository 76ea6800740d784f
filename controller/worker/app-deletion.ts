// The task `app_deletion`: routes, releases (and so jobs), resources and files of an app go, then the app itself
// (contract controller.md 5.2). Every attempt ends with an event; a failed one is tried again by the queue and begins
// with what is left.
import { sql } from 'kysely'
import { poll } from '../../pkg/clock/clock.ts'
import { describeError } from '../../pkg/errors/errors.ts'
import { orUndefined } from '../client.ts'
import { writeTo } from '../schema/write.ts'
import {
  type App,
  type ControllerEvent,
  formattedRouteId,
  type Release,
  type Resource,
  type Route,
} from '../types.ts'
import type { TaskContext } from './context.ts'
import { errors } from './errors.ts'
import { deleteFile } from './files.ts'

export const releaseDeletionTimeoutMs = 60_000

type Deleted = {
  readonly routes: Route[]
  readonly releases: Release[]
  readonly resources: Resource[]
}

export async function runAppDeletion(ctx: TaskContext, app: App): Promise<void> {
  const deleted: Deleted = { routes: [], releases: [], resources: [] }
  const present = await orUndefined(ctx.controller.app(app.id, { signal: ctx.signal }))
  if (present === undefined) return
  try {
    await deleteRoutes(ctx, app.id, deleted)
    await clearRelease(ctx, app.id)
    await deleteReleases(ctx, app.id, deleted)
    await deleteResources(ctx, app.id, deleted)
    for (const path of [`/repos/${app.id}.tar`, `/${app.id}-cache.tgz`])
      await deleteFile(ctx.blobstore, path, ctx.signal)
  } catch (e) {
    if (ctx.signal.aborted) throw errors.WORKER_STOPPED({}, { cause: e })
    await writeTo(ctx.db, async w => w.emit(deletionEvent(app.id, deleted, describeError(e))))
    throw e
  }
  await writeTo(ctx.db, async w => {
    const now = sql<string>`now()`
    await w.tx.updateTable('apps').set({ deleted_at: now }).where('app_id', '=', app.id).execute()
    await w.tx
      .updateTable('formations')
      .set({ deleted_at: now, processes: null, updated_at: sql<string>`clock_timestamp()` })
      .where('app_id', '=', app.id)
      .where('deleted_at', 'is', null)
      .execute()
    await w.tx.deleteFrom('app_resources').where('app_id', '=', app.id).execute()
    w.emit(deletionEvent(app.id, deleted, ''))
  })
  ctx.log.info({ app: app.id, name: app.name }, 'app deleted')
}

function deletionEvent(app: string, deleted: Deleted, error: string) {
  const list = <T>(items: readonly T[]): readonly T[] | null => (items.length > 0 ? items : null)
  return {
    app,
    type: 'app_deletion',
    objectId: app,
    data: {
      app_deletion: {
        app,
        deleted_routes: list(deleted.routes),
        deleted_resources: list(deleted.resources),
        deleted_releases: list(deleted.releases),
      },
      error,
    },
  } as const
}

/** Routes under a path go before the one at `/` that they depend on. */
async function deleteRoutes(ctx: TaskContext, app: string, deleted: Deleted): Promise<void> {
  const routes = await ctx.controller.appRoutes(app, { signal: ctx.signal })
  const depth = (route: Route): number => route.path?.length ?? 0
  for (const route of routes.toSorted((a, b) => depth(b) - depth(a))) {
    await orUndefined(ctx.controller.deleteRoute(app, formattedRouteId(route), { signal: ctx.signal }))
    const { certificate: _secret, tls_key: _key, ...shown } = route
    deleted.routes.push(shown)
  }
}

async function clearRelease(ctx: TaskContext, app: string): Promise<void> {
  await ctx.db.updateTable('apps').set({ release_id: null }).where('app_id', '=', app).execute()
}

async function deleteReleases(ctx: TaskContext, app: string, deleted: Deleted): Promise<void> {
  const releases = await ctx.controller.appReleases(app, { signal: ctx.signal })
  for (const release of releases) {
    const before = await newestEventId(ctx, release.id)
    await orUndefined(ctx.controller.deleteRelease(app, release.id, { signal: ctx.signal }))
    await releaseGone(ctx, release.id, before)
    deleted.releases.push(release)
  }
}

async function deletionEvents(ctx: TaskContext, release: string): Promise<readonly ControllerEvent[]> {
  const filter = { types: ['release_deletion'], objectId: release } as const
  return ctx.controller.events({ ...filter, count: 1 }, { signal: ctx.signal })
}

async function newestEventId(ctx: TaskContext, release: string): Promise<number> {
  return (await deletionEvents(ctx, release))[0]?.id ?? 0
}

/** Waits for the event that says so; one that tells of a failure is this attempt's failure. */
async function releaseGone(ctx: TaskContext, release: string, afterId: number): Promise<void> {
  const event = await poll(
    async () => {
      const newest = (await deletionEvents(ctx, release))[0]
      return newest !== undefined && newest.id > afterId ? newest : undefined
    },
    {
      timeoutMs: releaseDeletionTimeoutMs,
      intervalMs: 100,
      signal: ctx.signal,
      what: `the deletion of release ${release}`,
    },
  )
  const { error } = event.data as { readonly error?: string }
  if (error) throw errors.RELEASE_NOT_DELETED({ release, reason: error })
}

/** What only this app uses is given back to its provider; the rest is unlinked with the app. */
async function deleteResources(ctx: TaskContext, app: string, deleted: Deleted): Promise<void> {
  const resources = await ctx.controller.appResources(app, { signal: ctx.signal })
  for (const resource of resources) {
    if ((resource.apps ?? []).some(id => id !== app)) continue
    await orUndefined(ctx.controller.deleteResource(resource.provider, resource.id, { signal: ctx.signal }))
    const { env: _secret, ...shown } = resource
    deleted.resources.push(shown)
  }
}
