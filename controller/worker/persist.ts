// Writes of tasks that move the database itself: for some seconds there is no primary, or its name still stands for the old
// one. Such a write is tried again, so it must be one that may be done twice.
import { sleep } from '../../pkg/clock/clock.ts'
import { isConnectionError } from '../../pkg/pg/pg.ts'
import type { TaskContext } from './context.ts'

/** A change of primary takes about 2 s, the loss of its host up to 10 s. */
export const persistTimeoutMs = 60_000
const persistPauseMs = 250

/** Answers what the write answers; rejects with its last error when there is no primary for `persistTimeoutMs`. */
export async function persist<T>(
  ctx: Pick<TaskContext, 'signal' | 'log'>,
  write: () => Promise<T>,
): Promise<T> {
  const endMs = Date.now() + persistTimeoutMs
  for (;;) {
    try {
      return await write()
    } catch (err) {
      if (!isConnectionError(err) || Date.now() >= endMs) throw err
      ctx.log.info({ err }, 'the database takes no writes at the moment, trying again')
      await sleep(persistPauseMs, ctx.signal)
    }
  }
}
