// What a directory says of how to start it: a Procfile, else the start script of its package.json.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ProcessType } from '../controller/types.ts'
import { errors } from './errors.ts'

export const webPort = 8080

/** Process type to shell command. */
export type Commands = Readonly<Record<string, string>>

const linePattern = /^([a-z0-9]+(?:-[a-z0-9]+)*)\s*:\s*(\S.*)$/

export function parseProcfile(text: string): Commands {
  const commands: Record<string, string> = {}
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const [, type, command] = linePattern.exec(line) ?? []
    if (type === undefined || command === undefined) throw errors.PROCFILE_LINE({ line: index + 1 })
    commands[type] = command
  }
  return commands
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw e
  }
}

export type PackageJson = {
  readonly scripts?: Readonly<Record<string, string>>
  readonly dependencies?: Readonly<Record<string, string>>
}

export async function readPackage(dir: string): Promise<PackageJson | undefined> {
  const path = join(dir, 'package.json')
  const text = await readOptional(path)
  if (text === undefined) return undefined
  try {
    return JSON.parse(text) as PackageJson
  } catch (e) {
    throw errors.FILE_UNREADABLE({ path, reason: e instanceof Error ? e.message : String(e) }, { cause: e })
  }
}

/** The commands of a directory; rejects DEPLOY_NO_PROCESS when nothing names one. */
export async function readCommands(dir: string, pkg: PackageJson | undefined): Promise<Commands> {
  const procfile = await readOptional(join(dir, 'Procfile'))
  const commands = procfile === undefined ? {} : parseProcfile(procfile)
  if (Object.keys(commands).length > 0) return commands
  const start = pkg?.scripts?.['start']
  if (start) return { web: start }
  throw errors.DEPLOY_NO_PROCESS({ dir })
}

/** One simple command replaces its shell, so that signals reach it; what needs the shell keeps it. */
function shellCommand(command: string): string {
  return /[;&|<>(){}`]|\$\(|^\w+=/.test(command) ? command : `exec ${command}`
}

export function isWeb(type: string): boolean {
  return type === 'web' || type.endsWith('-web')
}

/** Process types of an app; web ones get a port and a checked service (contract controller.md 4.12). */
export function processTypes(app: string, commands: Commands, before: Readonly<Record<string, ProcessType>>) {
  const types: Record<string, ProcessType> = {}
  for (const [type, command] of Object.entries(commands)) {
    const service = `${app}-${type}`
    const web = isWeb(type)
      ? {
          service,
          ports: [
            { port: webPort, proto: 'tcp', service: { name: service, create: true, check: { type: 'tcp' } } },
          ],
        }
      : {}
    types[type] = { ...web, ...before[type], args: ['sh', '-c', shellCommand(command)] }
  }
  return types
}
