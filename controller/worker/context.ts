// What every task of the worker is given: the controller's API as a client, its tables for what the API cannot do, and
// the signal that ends tasks when the process is told to stop.
import type { Instance } from '../../discoverd/client.ts'
import type { HttpClient } from '../../pkg/http/client.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { ControllerClient } from '../client.ts'
import type { Db } from '../schema/write.ts'
import type { Claim, Work } from './claim.ts'

export type TaskContext = {
  readonly controller: ControllerClient
  readonly db: Db
  readonly log: Logger
  /** Aborted when the worker stops; the task throws and another worker goes on with it. */
  readonly signal: AbortSignal
  /** How many hosts there are: the batch size of deployments that name none. */
  readonly hostCount: () => Promise<number>
  /** Instances of a discoverd service. */
  readonly instances: (service: string) => Promise<readonly Instance[]>
  readonly claim: (work: Work) => Claim
  readonly blobstore: HttpClient
}
