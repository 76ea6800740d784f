// Settings of the machine's kernel that test hosts need and that no namespace keeps apart. Raised with the first
// cluster; the last one to go puts the old values back.
import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { stateRoot } from './names.ts'
import { clusterNames } from './state.ts'

/** Shared by all hosts; the usual 128 is less than five hosts full of daemons use. */
const inotifyInstancesMin = 1024
const savedFile = join(stateRoot, 'kernel.json')

type Saved = Readonly<Record<string, string>>

export async function prepareKernel(options: { readonly internet: boolean }): Promise<void> {
  await raise('/proc/sys/fs/inotify/max_user_instances', inotifyInstancesMin)
  if (options.internet) await raise('/proc/sys/net/ipv4/ip_forward', 1)
}

async function raise(file: string, least: number): Promise<void> {
  const current = (await readFile(file, 'utf8')).trim()
  if (Number(current) >= least) return
  const saved = await readSaved()
  await mkdir(stateRoot, { recursive: true, mode: 0o700 })
  if (!(file in saved)) await writeFile(savedFile, JSON.stringify({ ...saved, [file]: current }))
  await writeFile(file, String(least))
}

/** Does nothing while any cluster is left. */
export async function restoreKernel(): Promise<void> {
  if ((await clusterNames()).length > 0 || !existsSync(stateRoot)) return
  for (const [file, value] of Object.entries(await readSaved())) await writeFile(file, value)
  await rm(savedFile, { force: true })
  // Not recursive: a cluster that another process begins to make in this moment must keep its directory.
  await rmdir(stateRoot).catch((e: NodeJS.ErrnoException) => {
    if (e.code !== 'ENOTEMPTY' && e.code !== 'ENOENT') throw e
  })
}

async function readSaved(): Promise<Saved> {
  return existsSync(savedFile) ? (JSON.parse(await readFile(savedFile, 'utf8')) as Saved) : {}
}
