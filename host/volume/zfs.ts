// Runs `zfs` and `zpool` one at a time: they are quick, and zfs-fuse gets confused by mounts and destroys at once.
import { RunError, type RunResult, run } from '../../pkg/proc/run.ts'
import {
  type Dataset,
  datasetProperties,
  parseDatasets,
  parsePools,
  type ZfsFailure,
  zfsFailure,
} from './zfs.core.ts'

export const zfsTimeoutMs = 60_000
/** Importing replays what a crash left in the intent log. */
export const importTimeoutMs = 300_000

export class ZfsError extends Error {
  readonly failure: ZfsFailure
  readonly stderr: string

  constructor(cause: RunError) {
    super(cause.stderr.trim().split('\n')[0] || cause.message, { cause })
    this.name = 'ZfsError'
    this.stderr = cause.stderr
    this.failure = zfsFailure(cause.stderr)
  }
}

export function isZfsError(e: unknown, ...failure: readonly ZfsFailure[]): e is ZfsError {
  return e instanceof ZfsError && (failure.length === 0 || failure.includes(e.failure))
}

let last: Promise<unknown> = Promise.resolve()

async function command(argv: readonly [string, ...string[]], timeoutMs: number): Promise<RunResult> {
  const turn = last.then(() => run(argv, { timeoutMs }))
  last = turn.catch(() => undefined)
  try {
    return await turn
  } catch (e) {
    throw e instanceof RunError ? new ZfsError(e) : e
  }
}

export async function zfs(args: readonly string[], timeoutMs = zfsTimeoutMs): Promise<string> {
  return (await command(['zfs', ...args], timeoutMs)).stdout
}

export async function zpool(args: readonly string[], timeoutMs = zfsTimeoutMs): Promise<string> {
  return (await command(['zpool', ...args], timeoutMs)).stdout
}

/** The dataset and everything below it. */
export async function listDatasets(root: string, recursive: boolean): Promise<readonly Dataset[]> {
  const properties = datasetProperties.join(',')
  const depth = recursive ? ['-r'] : []
  return parseDatasets(await zfs(['get', '-Hp', ...depth, '-o', 'name,property,value', properties, root]))
}

/** Health by pool name. */
export async function listPools(): Promise<ReadonlyMap<string, string>> {
  return parsePools(await zpool(['list', '-H', '-o', 'name,health']))
}
