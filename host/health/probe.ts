// One probe of one service, from the host to the container's address (contract discoverd.md 14).
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import { type CheckPlan, matchBytesMax, probeTimeoutMs } from './check.core.ts'

/** Resolves undefined when the service is well, else why it is not. Never rejects. */
export type Probe = (plan: CheckPlan, host: string, port: number) => Promise<string | undefined>

function probeTcp(host: string, port: number): Promise<string | undefined> {
  return new Promise(resolve => {
    const socket = connect({ host, port, timeout: probeTimeoutMs })
    const settle = (reason: string | undefined) => {
      socket.destroy()
      resolve(reason)
    }
    socket.once('connect', () => settle(undefined))
    socket.once('timeout', () => settle(`healthcheck: no connection within ${probeTimeoutMs} ms`))
    socket.once('error', e => settle(`healthcheck: ${e.message}`))
  })
}

function probeHttp(plan: CheckPlan, host: string, port: number): Promise<string | undefined> {
  return new Promise(resolve => {
    const tell = (reason: string | undefined) => {
      clearTimeout(timer)
      resolve(reason)
    }
    const common = {
      host,
      port,
      path: plan.path,
      agent: false as const,
      headers: { connection: 'close', ...(plan.host === undefined ? {} : { host: plan.host }) },
    }
    const req =
      plan.type === 'https'
        ? httpsRequest({
            ...common,
            rejectUnauthorized: false,
            ...(plan.host === undefined ? {} : { servername: plan.host }),
          })
        : httpRequest(common)
    const late = () => req.destroy(new Error(`no answer within ${probeTimeoutMs} ms`))
    const timer = setTimeout(late, probeTimeoutMs)
    req.once('error', e => tell(`healthcheck: ${e.message}`))
    req.once('response', res => {
      const settle = (reason: string | undefined) => {
        tell(reason)
        req.destroy()
      }
      res.once('error', e => settle(`healthcheck: ${e.message}`))
      if (res.statusCode !== plan.status)
        return settle(`healthcheck: expected HTTP status ${plan.status}, got ${res.statusCode}`)
      const wanted = plan.match
      if (wanted === undefined) return settle(undefined)
      let body = Buffer.alloc(0)
      const judge = () =>
        settle(
          body.subarray(0, matchBytesMax).includes(wanted)
            ? undefined
            : 'healthcheck: response did not match expected bytes',
        )
      res.on('data', (chunk: Buffer) => {
        body = Buffer.concat([body, chunk])
        if (body.length >= matchBytesMax) judge()
      })
      res.once('end', judge)
    })
    req.end()
  })
}

export const probe: Probe = (plan, host, port) =>
  plan.type === 'tcp' ? probeTcp(host, port) : probeHttp(plan, host, port)
