// Values of the blobstore's HTTP API (contract blobstore.md 1). Its bodies are bytes, so there are headers, not schemas.

/** What is known of a stored object. */
export type BlobInfo = {
  /** Bytes. */
  readonly size: number
  /** The type given when it was stored; may be empty. */
  readonly contentType: string
  /** Quoted base64 of the content's SHA-512. */
  readonly etag: string
  readonly lastModified: Date
}

export const offsetHeader = 'blobstore-offset'
export const copyFromHeader = 'blobstore-copy-from'
