// Deletes files in the blobstore. Its answers 200, 202 and 404 all mean that the file is gone (contract controller.md 5.3).

import { describeError, FlynnError } from '../../pkg/errors/errors.ts'
import type { HttpClient } from '../../pkg/http/client.ts'
import { errors } from './errors.ts'

export const blobstoreUrl = 'http://blobstore.discoverd'
export const deleteTimeoutMs = 10_000

/** `uri` in full, or a path in the blobstore. */
export async function deleteFile(blobstore: HttpClient, uri: string, signal: AbortSignal): Promise<void> {
  const path = uri.startsWith(`${blobstoreUrl}/`) ? uri.slice(blobstoreUrl.length) : uri
  try {
    if (!path.startsWith('/')) throw new Error('it does not lie in the blobstore')
    await blobstore.delete(path, { signal, timeoutMs: deleteTimeoutMs })
  } catch (e) {
    if (e instanceof FlynnError && (e.status === 404 || e.status === 202)) return
    throw errors.FILE_NOT_DELETED({ uri, reason: describeError(e) }, { cause: e })
  }
}
