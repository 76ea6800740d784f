// The stream shape of formations and volumes (contract controller.md 2.6, 2.13): subscribe, send what is stored, send a
// sentinel, then what changes, one after the other.
import type { FastifyReply } from 'fastify'
import type { SseWriter } from '../../pkg/sse/sse.ts'
import type { ControllerEvent, EventType } from '../types.ts'
import { type Context, openStream } from './context.ts'

/** Changes that may wait to be read and sent; a reader further behind is cut off and starts again. */
export const changesWaitingMax = 1_000

export type ListStream<T> = {
  readonly types: readonly EventType[]
  readonly stored: () => Promise<readonly T[]>
  readonly sentinel: unknown
  /** What an event means for the reader; undefined for nothing. */
  readonly live: (event: ControllerEvent) => Promise<T | undefined>
}

export async function streamList<T>(ctx: Context, reply: FastifyReply, list: ListStream<T>): Promise<void> {
  const waiting: ControllerEvent[] = []
  let pumping = true
  let stream: SseWriter | undefined
  const fail = (err: unknown) => {
    ctx.log.error({ err }, 'stream failed')
    stream?.error('Something went wrong')
    stream?.close()
  }
  const pump = async () => {
    for (let event = waiting.shift(); event && !stream?.closed; event = waiting.shift()) {
      const value = await list.live(event)
      if (value !== undefined) stream?.send(value)
    }
    pumping = false
  }
  const unsubscribe = ctx.hub.subscribe(event => {
    if (!list.types.includes(event.object_type)) return
    if (waiting.length >= changesWaitingMax) {
      stream?.error('event stream buffer overflow')
      stream?.close()
      return
    }
    waiting.push(event)
    if (pumping) return
    pumping = true
    pump().catch(fail)
  })
  try {
    stream = openStream(ctx, reply, unsubscribe)
  } catch (e) {
    unsubscribe()
    throw e
  }
  try {
    for (const value of await list.stored()) {
      stream.send(value)
      await stream.drained()
    }
    stream.send(list.sentinel)
    await pump()
  } catch (e) {
    fail(e)
  }
}
