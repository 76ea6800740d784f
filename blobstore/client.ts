// What other components use of the blobstore: objects by name, streamed both ways. Names begin with a slash.
import type { Readable } from 'node:stream'
import { FlynnError } from '../pkg/errors/errors.ts'
import { HttpClient } from '../pkg/http/client.ts'
import { type BlobInfo, copyFromHeader, offsetHeader } from './types.ts'

export const defaultUrl = 'http://blobstore.discoverd'
/** Silence on a transfer that ends it is the transport's business; this bounds the whole of it. */
export const transferTimeoutMs = 30 * 60_000

export type PutOptions = {
  readonly contentType?: string
  /** Appends: the size that the object must have now. */
  readonly offset?: number
  readonly signal?: AbortSignal
}

function toPath(name: string): string {
  return name.split('/').map(encodeURIComponent).join('/')
}

function toInfo(headers: Record<string, string | string[] | undefined>): BlobInfo {
  const text = (key: string) => String(headers[key] ?? '')
  return {
    size: Number(text('content-length')),
    contentType: text('content-type'),
    etag: text('etag'),
    lastModified: new Date(text('last-modified')),
  }
}

function isMissing(e: unknown): boolean {
  return e instanceof FlynnError && e.status === 404
}

export class BlobstoreClient {
  readonly #http: HttpClient
  constructor(url: string = defaultUrl) {
    this.#http = new HttpClient({ url })
  }

  /** Stores an object, replacing what bore the name; readers see the old one until the new one is whole. */
  async put(name: string, body: Readable | Uint8Array | string, options: PutOptions = {}): Promise<void> {
    const res = await this.#http.raw('PUT', toPath(name), {
      body,
      timeoutMs: transferTimeoutMs,
      signal: options.signal,
      headers: {
        'content-type': options.contentType ?? 'application/octet-stream',
        ...(options.offset === undefined ? {} : { [offsetHeader]: String(options.offset) }),
      },
    })
    await res.body.dump()
  }

  /** The content, or undefined when there is no such object. The caller must read or destroy the stream. */
  async get(
    name: string,
    signal?: AbortSignal,
  ): Promise<{ readonly info: BlobInfo; readonly body: Readable } | undefined> {
    try {
      const res = await this.#http.raw('GET', toPath(name), { timeoutMs: transferTimeoutMs, signal })
      return { info: toInfo(res.headers), body: res.body }
    } catch (e) {
      if (isMissing(e)) return undefined
      throw e
    }
  }

  async head(name: string): Promise<BlobInfo | undefined> {
    try {
      const res = await this.#http.raw('HEAD', toPath(name))
      await res.body.dump()
      return toInfo(res.headers)
    } catch (e) {
      if (isMissing(e)) return undefined
      throw e
    }
  }

  /** Copies inside the store; the target must not exist. */
  async copy(source: string, target: string): Promise<void> {
    const res = await this.#http.raw('PUT', toPath(target), {
      timeoutMs: transferTimeoutMs,
      headers: { [copyFromHeader]: source },
    })
    await res.body.dump()
  }

  /** Removes the object and everything below `name/`; nothing there is no error. */
  async delete(name: string): Promise<void> {
    const res = await this.#http.raw('DELETE', toPath(name))
    await res.body.dump()
  }

  /** One level: entries of a directory, sorted, directories ending in a slash. */
  list(dir = '/'): Promise<readonly string[]> {
    return this.#http.get<readonly string[]>('/', { query: { dir } })
  }
}
