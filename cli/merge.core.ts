// `flynn release update`: a release with the fields of a file laid over it (contract cli.md 8.3). Pure.
import type { ProcessType, ReleaseInput } from '../controller/types.ts'

const filled = (value: unknown) =>
  value !== undefined &&
  value !== null &&
  value !== false &&
  value !== '' &&
  !(Array.isArray(value) && value.length === 0)

/** Given fields replace, environment and resources are merged by key; nothing can be unset this way. */
function mergeProcess(before: ProcessType | undefined, update: ProcessType): ProcessType {
  const replaced = Object.fromEntries(Object.entries(update).filter(([, value]) => filled(value)))
  const env = { ...before?.env, ...update.env }
  const resources = { ...before?.resources, ...update.resources }
  return {
    ...before,
    ...replaced,
    ...(Object.keys(env).length > 0 ? { env } : {}),
    ...(Object.keys(resources).length > 0 ? { resources } : {}),
  }
}

export function mergeRelease(before: ReleaseInput, update: ReleaseInput): ReleaseInput {
  const processes = { ...before.processes }
  for (const [type, process] of Object.entries(update.processes ?? {})) {
    processes[type] = mergeProcess(processes[type], process)
  }
  return {
    ...before,
    ...(update.artifacts?.length ? { artifacts: update.artifacts } : {}),
    env: { ...before.env, ...update.env },
    meta: { ...before.meta, ...update.meta },
    processes,
  }
}
