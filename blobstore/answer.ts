// Writes an object, or the part of it that was asked for, as the answer to a request; the client sets the pace.
// Headers as contract blobstore.md 1.2 lists them.
import type { ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { randomHex } from '../pkg/ids/ids.ts'
import { type ByteRange, type Decision, decide, type RequestConditions } from './conditions.core.ts'
import type { OpenFile } from './files.ts'
import type { BlobInfo } from './types.ts'

type Headers = Readonly<Record<string, string | number>>

function infoHeaders(info: BlobInfo): Headers {
  return {
    // Present even when empty: the type is never guessed.
    'content-type': info.contentType,
    ...(info.etag === '' ? {} : { etag: info.etag }),
    'last-modified': info.lastModified.toUTCString(),
    'accept-ranges': 'bytes',
  }
}

const contentRange = ({ start, length }: ByteRange, size: number) =>
  `bytes ${start}-${start + length - 1}/${size}`

type Part = { readonly head: string; readonly range?: ByteRange }
type Answer = { readonly status: number; readonly headers: Headers; readonly parts: readonly Part[] }

/** Several ranges as multipart/byteranges (RFC 9110 14.6). */
function multipart(info: BlobInfo, ranges: readonly ByteRange[]): Answer {
  const boundary = randomHex(16)
  const type = info.contentType === '' ? '' : `Content-Type: ${info.contentType}\r\n`
  const parts: Part[] = ranges.map((range, i) => ({
    head: `${i === 0 ? '' : '\r\n'}--${boundary}\r\n${type}Content-Range: ${contentRange(range, info.size)}\r\n\r\n`,
    range,
  }))
  parts.push({ head: `\r\n--${boundary}--\r\n` })
  const length = parts.reduce(
    (sum, part) => sum + Buffer.byteLength(part.head) + (part.range?.length ?? 0),
    0,
  )
  return {
    status: 206,
    headers: {
      ...infoHeaders(info),
      'content-type': `multipart/byteranges; boundary=${boundary}`,
      'content-length': length,
    },
    parts,
  }
}

function toAnswer(decision: Decision, info: BlobInfo): Answer {
  const headers = infoHeaders(info)
  switch (decision.kind) {
    case 'not-modified': {
      const { etag, 'last-modified': lastModified } = headers
      return {
        status: 304,
        headers: { ...(etag === undefined ? {} : { etag }), 'last-modified': lastModified ?? '' },
        parts: [],
      }
    }
    case 'precondition-failed':
      return { status: 412, headers: { 'content-length': 0 }, parts: [] }
    case 'unsatisfiable':
      return {
        status: 416,
        headers: { 'content-range': `bytes */${info.size}`, 'content-length': 0 },
        parts: [],
      }
    case 'partial': {
      const [range, ...more] = decision.ranges
      if (more.length > 0) return multipart(info, decision.ranges)
      return {
        status: 206,
        headers: {
          ...headers,
          'content-range': contentRange(range, info.size),
          'content-length': range.length,
        },
        parts: [{ head: '', range }],
      }
    }
    case 'whole':
      return {
        status: 200,
        headers: { ...headers, 'content-length': info.size },
        parts: [{ head: '', range: { start: 0, length: info.size } }],
      }
    default:
      return decision satisfies never
  }
}

/** Answers HEAD: headers only. */
export function answerHead(res: ServerResponse, info: BlobInfo, conditions: RequestConditions): void {
  const { status, headers } = toAnswer(decide(conditions, info), info)
  res.writeHead(status, headers).end()
}

/** Answers GET. Rejects when the client or the database goes away; the response is then cut, never padded. */
export async function answerGet(
  res: ServerResponse,
  file: OpenFile,
  conditions: RequestConditions,
): Promise<void> {
  const { status, headers, parts } = toAnswer(decide(conditions, file.info), file.info)
  res.writeHead(status, headers)
  async function* body(): AsyncGenerator<Buffer> {
    for (const part of parts) {
      if (part.head !== '') yield Buffer.from(part.head)
      if (part.range) yield* file.read(part.range)
    }
  }
  await pipeline(Readable.from(body(), { objectMode: false }), res)
  await file.close()
}
