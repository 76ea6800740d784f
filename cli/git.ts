// What git knows of apps: remotes whose URL belongs to a configured cluster (contract cli.md 5).
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Cluster } from './config.ts'
import { errors } from './errors.ts'

export const gitTimeoutMs = 10_000

export type GitApp = { readonly cluster: Cluster; readonly app: string; readonly remote: string }

/** Looks as git does, up from here; starting git to hear that there is none takes longer than all the rest. */
function repositoryNear(): boolean {
  if (process.env['GIT_DIR']) return true
  for (let dir = process.cwd(); ; dir = dirname(dir)) {
    if (existsSync(join(dir, '.git'))) return true
    if (dir === dirname(dir)) return false
  }
}

async function git(args: readonly string[]): Promise<string | undefined> {
  if (!repositoryNear()) return undefined
  const { RunError, run } = await import('../pkg/proc/run.ts')
  try {
    return (await run(['git', ...args], { timeoutMs: gitTimeoutMs })).stdout.trim()
  } catch (e) {
    // No repository, no such setting, or no git at all: git knows nothing of an app then.
    if (e instanceof RunError) return undefined
    throw e
  }
}

export async function inRepository(): Promise<boolean> {
  return (await git(['rev-parse', '--git-dir'])) !== undefined
}

function appOf(url: string, clusters: readonly Cluster[], remote: string): GitApp | undefined {
  for (const cluster of clusters) {
    if (!cluster.GitURL || !url.startsWith(`${cluster.GitURL}/`) || !url.endsWith('.git')) continue
    return { cluster, remote, app: url.slice(cluster.GitURL.length + 1, -'.git'.length) }
  }
  return undefined
}

/** The app of one remote, when its URL belongs to a configured cluster. */
export async function appOfRemote(remote: string, clusters: readonly Cluster[]): Promise<GitApp | undefined> {
  const url = await git(['config', `remote.${remote}.url`])
  return url ? appOf(url, clusters, remote) : undefined
}

/** `flynn.remote`, else the one remote that leads to a configured cluster; undefined when none does. */
export async function appOfRepository(clusters: readonly Cluster[]): Promise<GitApp | undefined> {
  const chosen = await git(['config', 'flynn.remote'])
  if (chosen) {
    const url = await git(['config', `remote.${chosen}.url`])
    if (!url) throw errors.REMOTE_UNKNOWN({ remote: chosen, dir: process.cwd() })
    const app = appOf(url, clusters, chosen)
    if (!app) throw errors.REMOTE_NO_APP({ remote: chosen })
    return app
  }
  const lines = ((await git(['remote', '-v'])) ?? '').split('\n').filter(line => line.endsWith('(push)'))
  const apps = lines.flatMap(line => {
    const [remote = '', url = ''] = line.split(/\s+/)
    const app = appOf(url, clusters, remote)
    return app ? [app] : []
  })
  if (apps.length > 1)
    throw errors.MANY_APPS({ remotes: apps.map(a => `  ${a.remote} (${a.app})`).join('\n') })
  return apps[0]
}

export async function remoteUrl(remote: string): Promise<string | undefined> {
  return await git(['config', `remote.${remote}.url`])
}

export async function setRemote(remote: string, url: string): Promise<void> {
  await git(['remote', 'remove', remote])
  await git(['remote', 'add', remote, url])
}

export async function removeRemote(remote: string): Promise<void> {
  await git(['remote', 'remove', remote])
}
