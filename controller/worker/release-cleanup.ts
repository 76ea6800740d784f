// The task `release_cleanup`: the files of a deleted release leave the blobstore, in order; the first that does not is
// reported, and the queue tries again (contract controller.md 5.3).
import { describeError } from '../../pkg/errors/errors.ts'
import type { Tasks } from '../queue.ts'
import { writeTo } from '../schema/write.ts'
import type { TaskContext } from './context.ts'
import { deleteFile } from './files.ts'

export async function runReleaseCleanup(ctx: TaskContext, payload: Tasks['release_cleanup']): Promise<void> {
  const { AppID: app, ReleaseID: release, FileURIs: uris } = payload
  const deleted: string[] = []
  let failure: unknown
  try {
    for (const uri of uris) {
      await deleteFile(ctx.blobstore, uri, ctx.signal)
      deleted.push(uri)
    }
  } catch (e) {
    failure = e
  }
  await writeTo(ctx.db, async w =>
    w.emit({
      app,
      type: 'release_deletion',
      objectId: release,
      data: {
        release_deletion: { app, release, remaining_apps: null, deleted_files: deleted },
        error: failure === undefined ? '' : describeError(failure),
      },
    }),
  )
  if (failure !== undefined) throw failure
}
