// Changes of the consensus peers as `flynn-host promote` and `demote` ask for them (contract host.md 1.6). Each call goes to
// the discoverd of the host concerned, or, for a dead one, to any other.
import { HttpClient } from '../pkg/http/client.ts'

/** A promotion waits for data to be copied and for other changes to settle. */
export const peerChangeTimeoutMs = 150_000
export const pingTimeoutMs = 5_000

/** `10.0.0.1`, `10.0.0.1:1111` or `http://10.0.0.1:1111`: all the same discoverd. */
export function peerUrl(addr: string): string {
  const url = new URL(addr.includes('://') ? addr : `http://${addr}`)
  return `http://${url.hostname}:${url.port || '1111'}`
}

export class PeerAdmin {
  readonly url: string
  readonly #http: HttpClient

  constructor(options: { readonly addr: string; readonly authKey?: string | undefined }) {
    this.url = peerUrl(options.addr)
    const { authKey } = options
    this.#http = new HttpClient({ url: this.url, auth: authKey === undefined ? undefined : { authKey } })
  }

  /** Rejects when it does not answer. */
  async ping(): Promise<void> {
    await this.#http.get('/ping', { retryMs: 0, timeoutMs: pingTimeoutMs })
  }

  /** Resolves when the host votes. */
  async promote(): Promise<void> {
    await this.#http.post('/raft/promote', {}, { retryMs: 0, timeoutMs: peerChangeTimeoutMs })
  }

  /** Resolves when the host votes no more. */
  async demote(): Promise<void> {
    await this.#http.post('/raft/demote', {}, { retryMs: 0, timeoutMs: peerChangeTimeoutMs })
  }

  /** Takes another peer out, dead or alive. */
  async remove(addr: string): Promise<void> {
    const peer = encodeURIComponent(new URL(peerUrl(addr)).host)
    await this.#http.delete(`/raft/peers/${peer}`, { retryMs: 0, timeoutMs: peerChangeTimeoutMs })
  }

  /** Resolves when the host is the only peer and its discoverd takes writes again. */
  async recover(): Promise<void> {
    await this.#http.post('/raft/recover', {}, { retryMs: 0, timeoutMs: peerChangeTimeoutMs })
  }

  /** `ip:port` of all peers. */
  peers(): Promise<readonly string[]> {
    return this.#http.get('/raft/peers', { retryMs: 0, timeoutMs: pingTimeoutMs })
  }
}
