// The task `app_garbage_collection`: old slug releases of an app go (contract controller.md 5.4). A release that cannot
// be deleted now is left to the next run.
import { describeError } from '../../pkg/errors/errors.ts'
import { orUndefined } from '../client.ts'
import type { Tasks } from '../queue.ts'
import { writeTo } from '../schema/write.ts'
import { metaKeys } from '../types.ts'
import { gcLimit, leftOverReleases } from './app-gc.core.ts'
import type { TaskContext } from './context.ts'
import { errors } from './errors.ts'

export async function runAppGc(ctx: TaskContext, payload: Tasks['app_garbage_collection']): Promise<void> {
  const app = await orUndefined(ctx.controller.app(payload.app_id, { signal: ctx.signal }))
  if (app === undefined) return
  const value = app.meta[metaKeys.gcMaxInactive]
  const keep = gcLimit(value)
  if (keep === undefined) return
  const deleted: string[] = []
  let failure: unknown
  try {
    if (keep === null) throw errors.GC_LIMIT_INVALID({ value: value ?? '' })
    for (const release of await candidates(ctx, app.id, app.release, keep)) {
      try {
        await ctx.controller.deleteRelease(app.id, release.id, { signal: ctx.signal })
        deleted.push(release.id)
      } catch (err) {
        ctx.log.warn({ err, release: release.id }, 'an old release was not deleted')
      }
    }
  } catch (e) {
    failure = e
  }
  await writeTo(ctx.db, async w =>
    w.emit({
      app: app.id,
      type: 'app_garbage_collection',
      objectId: app.id,
      data: {
        app_garbage_collection: { app_id: app.id, deleted_releases: deleted.length > 0 ? deleted : null },
        error: failure === undefined ? '' : describeError(failure),
      },
    }),
  )
  // A limit that is no number stays one: only the rest is worth another attempt.
  if (failure !== undefined && keep !== null) throw failure
}

async function candidates(ctx: TaskContext, app: string, current: string | undefined, keep: number) {
  const call = { signal: ctx.signal }
  const [releases, formations, artifacts] = await Promise.all([
    ctx.controller.appReleases(app, call),
    ctx.controller.formations(app, call),
    ctx.controller.artifacts(call),
  ])
  const running = formations.filter(f => Object.values(f.processes ?? {}).some(n => n > 0))
  return leftOverReleases({
    releases,
    active: new Set([...running.map(f => f.release), ...(current === undefined ? [] : [current])]),
    keep,
    uris: new Map(artifacts.map(a => [a.id, a.uri])),
  })
}
