// What this machine has for its jobs: told in the host's status and with its registration, where the scheduler's placement
// finds it (contract controller.md 4.5). Called by daemon.ts.
import { availableParallelism, totalmem } from 'node:os'
import { capacityMeta, type HostCapacity } from './types.ts'

/** Memory of the machine, or of the control group that the daemon lies in when that is less; cores that it may use. */
export function hostCapacity(): HostCapacity {
  const limit = process.constrainedMemory()
  const memory = limit > 0 ? Math.min(limit, totalmem()) : totalmem()
  return { memory, cpu: availableParallelism() * 1000 }
}

/** The capacity as part of the registration. */
export function toMeta(capacity: HostCapacity): Readonly<Record<string, string>> {
  return {
    [capacityMeta.memory]: String(capacity.memory),
    [capacityMeta.cpu]: String(capacity.cpu),
  }
}
