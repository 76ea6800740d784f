// Objects that may not exist. Here and not from the controller's client: that is most of what there is to load, and
// help does without it.
import { isFlynnError } from '../pkg/errors/errors.ts'

/** undefined instead of a rejection when the object does not exist. */
export async function orUndefined<T>(call: Promise<T>): Promise<T | undefined> {
  return await call.catch(e => {
    if (isFlynnError(e) && e.status === 404) return undefined
    throw e
  })
}
