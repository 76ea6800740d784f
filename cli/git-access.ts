// What git has to know of a cluster: the authority that signed its certificate, and that this program knows the key
// (contract cli.md 8.8, 11).
import { mkdir, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { RunError, run } from '../pkg/proc/run.ts'
import type { Cluster } from './config.ts'
import { errors } from './errors.ts'

const installed = '/usr/local/bin/flynn'

async function gitConfig(...words: string[]): Promise<void> {
  try {
    await run(['git', 'config', '--global', ...words])
  } catch (e) {
    const { cause } = e as { cause?: NodeJS.ErrnoException }
    throw e instanceof RunError && cause?.code === 'ENOENT' ? errors.GIT_MISSING({}, { cause: e }) : e
  }
}

/** How git calls this program: the launcher where it is installed, else whatever PATH has. */
function program(): string {
  return process.argv[1]?.endsWith('.mjs') ? installed : 'flynn'
}

/** For a cluster whose certificate is one that the system trusts. */
export async function setUpGitHelper(cluster: Cluster): Promise<void> {
  await gitConfig(`credential.${cluster.GitURL}.helper`, `${program()} git-credentials`)
}

export async function setUpGitAccess(cluster: Cluster, authority: string): Promise<void> {
  const file = join(homedir(), '.flynn', 'ca-certs', `${cluster.Name}.pem`)
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, authority)
  await gitConfig(`http.${cluster.GitURL}.sslCAInfo`, file)
  await setUpGitHelper(cluster)
}

export async function forgetGitAccess(gitUrl: string): Promise<void> {
  for (const section of [`http.${gitUrl}`, `credential.${gitUrl}`]) {
    // 1 and 128: there is no such section, or no file to look in.
    await run(['git', 'config', '--global', '--remove-section', section], { accept: [1, 128] })
  }
}
