// What a bootstrap has done so far, on disk, so that running it again continues instead of starting over. Holds the
// cluster's secrets: readable by root only. Written whole and renamed, so a power cut leaves the old or the new.
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { errors } from './errors.ts'

export const stateFile = '/var/lib/flynn/bootstrap-state.json'

export type BootstrapState = {
  /** Of the manifest, the domain and the number of hosts: another run must be of the same cluster. */
  readonly fingerprint: string
  readonly data: Readonly<Record<string, unknown>>
}

/** The state of an earlier run, or a new one; refuses a state that belongs to another cluster. */
export async function loadState(path: string, fingerprint: string): Promise<BootstrapState> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return { fingerprint, data: {} }
    throw e
  }
  const state = JSON.parse(text) as BootstrapState
  if (state.fingerprint !== fingerprint) throw errors.OTHER_MANIFEST()
  return state
}

export async function saveState(path: string, state: BootstrapState): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const temporary = `${path}.new`
  const file = await open(temporary, 'w', 0o600)
  try {
    // A file left by an interrupted run keeps its mode otherwise.
    await file.chmod(0o600)
    await file.writeFile(`${JSON.stringify(state)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
}
