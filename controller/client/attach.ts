// The client's half of `POST /apps/:app/jobs` with `Upgrade: flynn-attach/0` (contract controller.md 2.8).
import { request as httpRequest } from 'node:http'
import type { Duplex } from 'node:stream'
import { type Attachment, openAttachment } from '../../host/client.ts'
import { attachProtocol } from '../../host/types.ts'
import { FlynnError } from '../../pkg/errors/errors.ts'
import type { NewJob } from '../types.ts'
import { type ConnectOptions, openSocket } from './connect.ts'

/** The controller answers once the job has been placed and started; images may have to be fetched first. */
export const attachAnswerTimeoutMs = 300_000
const refusalBytesMax = 64 * 1024

export type AttachCall = {
  readonly url: string
  readonly key: string
  readonly token?: string | undefined
  readonly app: string
  readonly job: NewJob
  readonly connect: ConnectOptions
  readonly signal?: AbortSignal | undefined
}

function refusal(status: number, text: string): FlynnError {
  try {
    const { code, message, remedy } = JSON.parse(text) as { code: string; message: string; remedy?: string }
    return new FlynnError({ code, status, message, remedy })
  } catch {
    // No JSON: the empty 404 and 401 of the contract, or a page of a proxy.
    const code = status === 404 ? 'not_found' : status === 401 ? 'unauthorized' : 'unknown_error'
    return new FlynnError({ code, status, message: `run job: HTTP ${status} ${text.trim()}`.trim() })
  }
}

/** Starts a job and resolves when it is attached. Rejects with the controller's error. */
export async function attachJob(call: AttachCall): Promise<Attachment> {
  const url = new URL(`${call.url}/apps/${encodeURIComponent(call.app)}/jobs`)
  const socket = await openSocket(url, call.connect)
  const body = JSON.stringify(call.job)
  return new Promise((resolve, reject) => {
    const fail = (e: Error) => {
      clearTimeout(timer)
      socket.destroy()
      reject(e)
    }
    const timer = setTimeout(
      () => fail(new Error(`the job was not attached within ${attachAnswerTimeoutMs} ms`)),
      attachAnswerTimeoutMs,
    )
    call.signal?.addEventListener('abort', () => fail(new Error('aborted')), { once: true })
    const req = httpRequest({
      createConnection: () => socket,
      method: 'POST',
      path: url.pathname,
      headers: {
        host: url.host,
        authorization: call.token
          ? `Bearer ${call.token}`
          : `Basic ${Buffer.from(`:${call.key}`).toString('base64')}`,
        connection: 'upgrade',
        upgrade: attachProtocol,
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
      },
    })
    req.once('error', fail)
    req.once('upgrade', (_res, upgraded: Duplex, head: Buffer) => {
      clearTimeout(timer)
      resolve(openAttachment({ socket: upgraded, head }))
    })
    req.once('response', res => {
      let text = ''
      res.on('data', (chunk: Buffer) => {
        if (text.length < refusalBytesMax) text += chunk.toString()
      })
      res.once('end', () => fail(refusal(res.statusCode ?? 500, text)))
    })
    req.end(body)
  })
}
