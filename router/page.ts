// The operator's own page for requests that no backend can take, fetched once at start (contract router.md 1).
import { describeError } from '../pkg/errors/errors.ts'
import type { Logger } from '../pkg/log/log.ts'
import { unavailablePageBytesMax } from './config.core.ts'

export const pageTimeoutMs = 10_000

/** Undefined, and a line in the log, when there is none that can be used: the router starts all the same. */
export async function fetchPage(url: string | undefined, log: Logger): Promise<string | undefined> {
  if (!url) return undefined
  try {
    const res = await fetch(url, { signal: AbortSignal.timeout(pageTimeoutMs) })
    if (res.status !== 200) throw new Error(`status ${res.status}`)
    const page = await res.text()
    const bytes = Buffer.byteLength(page)
    if (bytes <= unavailablePageBytesMax) return page
    throw new Error(`${bytes} bytes, over ${unavailablePageBytesMax}`)
  } catch (e) {
    log.error({ url, reason: describeError(e) }, 'ERROR_503_PAGE_URL cannot be used, serving the plain text')
    return undefined
  }
}
