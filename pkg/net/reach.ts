// Whether a machine is there. The kernel accepts or refuses connections also where every program is starved of processor
// time, so this tells a busy machine from a dead one. Called by host (failover) and scheduler.
import { connect } from 'node:net'

/** `silent`: nothing came back in time, or the network says that nobody is there. */
export type Reach = 'open' | 'refused' | 'silent'

/** Opens a connection and closes it again. */
export function reach(host: string, port: number, timeoutMs: number): Promise<Reach> {
  return new Promise(resolve => {
    const socket = connect({ host, port })
    const end = (found: Reach) => {
      clearTimeout(timer)
      socket.destroy()
      resolve(found)
    }
    const timer = setTimeout(() => end('silent'), timeoutMs)
    socket.once('connect', () => end('open'))
    socket.once('error', (e: NodeJS.ErrnoException) => end(e.code === 'ECONNREFUSED' ? 'refused' : 'silent'))
  })
}
