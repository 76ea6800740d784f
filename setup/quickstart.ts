// From an installed daemon to a served page: bootstrap, CLI set-up, the guestbook with its database, one entry written
// and read back. Each step looks first, so a second run repeats nothing.
import { join } from 'node:path'
import { poll } from '../pkg/clock/clock.ts'
import { exchange } from '../pkg/http/request.ts'
import { run } from '../pkg/proc/run.ts'
import type { Progress } from '../pkg/progress/progress.ts'
import { layout, sourceRoot } from './layout.ts'

export const defaultDomain = 'flynn.localhost'
export const bootstrapTimeoutMs = 10 * 60_000
export const deployTimeoutMs = 5 * 60_000
export const pageTimeoutMs = 60_000

const app = 'guestbook'

const flynn = (args: readonly string[], timeoutMs = 60_000) =>
  run([join(layout.binaries, 'flynn'), ...args], { timeoutMs, env: { HOME: process.env['HOME'] ?? '/root' } })

/** Runs the bootstrap with its progress on this terminal; it continues where an earlier one stopped. */
export async function bootstrap(domain: string): Promise<void> {
  const { spawn } = await import('node:child_process')
  const child = spawn(join(layout.binaries, 'flynn-host'), ['bootstrap'], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, CLUSTER_DOMAIN: domain },
    timeout: bootstrapTimeoutMs,
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', resolve)
  })
  if (code !== 0)
    throw new Error(
      'the bootstrap stopped; its last lines above say why. Running this command again continues there',
    )
}

/** The `flynn cluster add …` line of this cluster, as argv after the program's name. */
export async function clusterAddLine(): Promise<readonly string[]> {
  const { stdout } = await run([join(layout.binaries, 'flynn-host'), 'cli-add-command'])
  const line = stdout.trim().split('\n').at(-1) ?? ''
  const words = line.split(/\s+/)
  if (words[0] !== 'flynn' || words[1] !== 'cluster')
    throw new Error(`flynn-host cli-add-command printed "${line}"`)
  return words.slice(1)
}

async function hasGit(): Promise<boolean> {
  return await run(['git', '--version']).then(
    () => true,
    () => false,
  )
}

/** Replaces the entry of an earlier cluster of this machine: its key and certificate are gone with it. */
async function addCluster(words: readonly string[]): Promise<void> {
  const flags = (await hasGit()) ? ['--force'] : ['--force', '--no-git']
  await flynn([...words.slice(0, 2), ...flags, ...words.slice(2)])
}

async function deployGuestbook(progress: Progress): Promise<void> {
  const apps = (await flynn(['apps'])).stdout
  if (!new RegExp(`\\b${app}\\b`).test(apps)) await flynn(['create', '--remote', '', app])
  const resources = (await flynn(['-a', app, 'resource'])).stdout
  if (!resources.includes('postgres')) {
    progress.info(app, 'adding a database')
    await flynn(['-a', app, 'resource', 'add', 'postgres'])
  }
  // Whoever changed it since knows how to deploy; what is scaled stays as it is.
  const serving = (await flynn(['-a', app, 'ps', '-q', '-t', 'web'])).stdout.trim()
  if (serving !== '') return
  progress.info(app, 'deploying examples/guestbook')
  await flynn(['-a', app, 'deploy', join(sourceRoot, 'examples', 'guestbook')], deployTimeoutMs)
  await flynn(['-a', app, 'scale', 'web=1', 'worker=1'], deployTimeoutMs)
}

/** Signs the guestbook through the router, unless that was done before, and waits until the page shows it. */
async function signAndRead(url: URL): Promise<void> {
  const through = { headers: { host: url.host, 'content-type': 'application/x-www-form-urlencoded' } }
  const local = new URL('http://127.0.0.1/')
  const message = 'first entry, written by the installer'
  const form = new URLSearchParams({ name: 'Flynn', message }).toString()
  const shows = async () => {
    const page = await exchange(local, through)
    const text = await page.body.text()
    if (page.statusCode !== 200) throw new Error(`${url} answers ${page.statusCode}`)
    return text.includes(message)
  }
  await poll(
    async () => {
      if (await shows()) return true
      const res = await exchange(local, { ...through, method: 'POST', body: form })
      await res.body.dump()
      if (res.statusCode !== 303) throw new Error(`signing it answers ${res.statusCode}`)
      return shows()
    },
    { timeoutMs: pageTimeoutMs, intervalMs: 250, what: `${url} to show the entry that was written` },
  )
}

export type QuickstartResult = { readonly url: string; readonly addLine: string }

export async function quickstart(domain: string, progress: Progress): Promise<QuickstartResult> {
  const step = async <T>(label: string, work: () => Promise<T>): Promise<T> => {
    progress.start(label)
    try {
      const value = await work()
      progress.done(label)
      return value
    } catch (e) {
      progress.error(label, e instanceof Error ? e.message : String(e))
      throw e
    }
  }
  await bootstrap(domain)
  const words = await step('command line', async () => {
    const line = await clusterAddLine()
    await addCluster(line)
    return line
  })
  await step(app, () => deployGuestbook(progress))
  const url = new URL(`http://${app}.${domain}/`)
  await step('first page', () => signAndRead(url))
  return { url: url.href, addLine: `flynn ${words.join(' ')}` }
}
