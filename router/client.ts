// What other components ask of a router: its statistics of the last minute. One client asks one router; a cluster's
// figures are the sum over the instances of the service `router-api`.
import { HttpClient } from '../pkg/http/client.ts'
import type { RouteStats } from './types.ts'

export class RouterClient {
  readonly #http: HttpClient
  /** `url` of a router's API, such as `http://10.0.0.1:5000`. */
  constructor(url: string) {
    this.#http = new HttpClient({ url })
  }

  /** One entry for each route. Rejects when the router does not answer. */
  routeStats(signal?: AbortSignal): Promise<readonly RouteStats[]> {
    return this.#http.get<readonly RouteStats[]>('/routes/stats', { signal })
  }
}
