// The scheduler's own API: what its leader says of a host's drain, for `flynn-host drain`, and of a job, for the controller.
import { HttpClient, type RequestOptions } from '../../pkg/http/client.ts'
import type { DrainReport, JobExplanation } from '../types.ts'

/** Its leader is the scheduler that acts. */
export const schedulerService = 'controller-scheduler'

export class SchedulerClient {
  readonly #http: HttpClient

  /** `url` of one scheduler; `key` of the controller. */
  constructor(options: { readonly url: string; readonly key: string }) {
    this.#http = new HttpClient({ url: options.url, auth: { basicPassword: options.key } })
  }

  drain(host: string, call?: Pick<RequestOptions, 'signal' | 'timeoutMs' | 'retryMs'>): Promise<DrainReport> {
    return this.#http.get(`/drains/${encodeURIComponent(host)}`, call)
  }

  explainJob(
    uuid: string,
    call?: Pick<RequestOptions, 'signal' | 'timeoutMs' | 'retryMs'>,
  ): Promise<JobExplanation> {
    return this.#http.get(`/jobs/${encodeURIComponent(uuid)}/explanation`, call)
  }
}
