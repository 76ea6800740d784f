// The manifest: an array of steps, read, checked and with its `$image_artifact[name]` filled from the installed
// images. Contract host.md 7.1, 7.3.
import { readFile } from 'node:fs/promises'
import { errors } from './errors.ts'

export type Step = { readonly id: string; readonly action: string } & Readonly<Record<string, unknown>>

const imagePattern = /^\$image_artifact\[([a-z0-9-]+)\]$/

function fillImages(value: unknown, images: Readonly<Record<string, unknown>>): unknown {
  if (typeof value === 'string') {
    const name = imagePattern.exec(value)?.[1]
    if (name === undefined) return value
    const artifact = images[name]
    if (artifact === undefined) throw errors.UNKNOWN_IMAGE({ image: name })
    return artifact
  }
  if (Array.isArray(value)) return value.map(v => fillImages(v, images))
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, fillImages(v, images)]))
  }
  return value
}

/** Steps of a manifest text. Errors name the step and what is wrong with it. */
export function parseManifest(text: string, images: Readonly<Record<string, unknown>>): readonly Step[] {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (e) {
    throw errors.MANIFEST_SYNTAX({ reason: e instanceof Error ? e.message : String(e) }, { cause: e })
  }
  if (!Array.isArray(value)) throw errors.MANIFEST_SYNTAX({ reason: 'an array of steps is expected' })
  const seen = new Set<string>()
  return value.map((raw: unknown, index) => {
    const step = raw as Partial<Step> | null
    if (typeof step?.id !== 'string' || step.id === '')
      throw errors.MANIFEST_INVALID({ step: `#${index + 1}`, reason: 'id is missing' })
    if (typeof step.action !== 'string')
      throw errors.MANIFEST_INVALID({ step: step.id, reason: 'action is missing' })
    if (seen.has(step.id)) throw errors.MANIFEST_INVALID({ step: step.id, reason: 'its id is used twice' })
    seen.add(step.id)
    return fillImages(step, images) as Step
  })
}

/** Reads a file, or standard input for `-`. */
export async function readManifestText(path: string): Promise<string> {
  if (path !== '-') {
    return await readFile(path, 'utf8').catch(e => {
      throw errors.MANIFEST_UNREADABLE({ path, reason: e.message }, { cause: e })
    })
  }
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}
