// The command line of HAProxy's master process: one command a connection. It reaches the workers of before a reload,
// which the runtime socket does not. Used by the router's drain.
import { connect } from 'node:net'

export const masterTimeoutMs = 2_000

/** The answer to one command; `@!<pid> <command>` asks that worker. Rejects when the master does not answer in time. */
export function masterCommand(path: string, command: string): Promise<string> {
  if (/[\n;]/.test(command)) return Promise.reject(new Error('one command a call'))
  return new Promise((resolve, reject) => {
    let text = ''
    // It answers and waits for the next command until this side ends.
    const socket = connect({ path, allowHalfOpen: true }, () => socket.end(`${command}\n`))
    socket.setEncoding('latin1')
    socket.setTimeout(masterTimeoutMs, () =>
      socket.destroy(new Error(`the master did not answer within ${masterTimeoutMs} ms`)),
    )
    socket.on('data', chunk => {
      text += String(chunk)
    })
    socket.on('error', reject)
    socket.on('close', () => resolve(text.trim()))
  })
}

/** Process ids of workers that a reload retired and that still have connections, from `show proc`. */
export function oldWorkers(text: string): readonly string[] {
  const pids: string[] = []
  let old = false
  for (const line of text.split('\n')) {
    if (line.startsWith('#')) old = line.startsWith('# old workers')
    else if (old) {
      const pid = /^(\d+)\s+worker\b/.exec(line)?.[1]
      if (pid) pids.push(pid)
    }
  }
  return pids
}
