// The installer behind ./install-flynn: argument parsing and the order of the steps.
import { existsSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { describeError } from '../pkg/errors/errors.ts'
import { run } from '../pkg/proc/run.ts'
import { type Progress, stderrProgress } from '../pkg/progress/progress.ts'
import { installFiles } from './files.ts'
import { sourceRoot } from './layout.ts'
import { defaultDomain, quickstart } from './quickstart.ts'
import { remove } from './remove.ts'
import { startDaemon } from './service.ts'

const usage = `Usage: ./install-flynn [options]

Installs Flynn from this checkout: Debian packages, images, flynn-host and flynn, and starts the daemon.

Options:
  --quickstart        also boot a one-node cluster and deploy examples/guestbook
  --domain=DOMAIN     the cluster's domain (default: $CLUSTER_DOMAIN, else ${defaultDomain})
  --prebuilt          take packages and images as they are (build/ was made before)
  --no-start          put the files in place and leave the daemon as it is
  --clean             remove an earlier installation and all its data first
  --remove            remove the installation and all its data
  --yes               do not ask before removing
  -h, --help          this text

Example:
  sudo ./install-flynn --quickstart
`

const imagesTimeoutMs = 30 * 60_000
const packagesTimeoutMs = 15 * 60_000

async function confirm(): Promise<boolean> {
  const { createInterface } = await import('node:readline/promises')
  const line = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const answer = await line.question(
      'This ends every job of this host and deletes all its data. Type "yes" to go on: ',
    )
    return answer.trim() === 'yes'
  } finally {
    line.close()
  }
}

/** What is missing of a group of setup/packages.list. */
async function installPackages(group: string): Promise<void> {
  const argv = ['sh', 'setup/packages.sh', group] as const
  await run([...argv], { cwd: sourceRoot, timeoutMs: packagesTimeoutMs })
}

async function buildImages(): Promise<void> {
  const { spawn } = await import('node:child_process')
  const child = spawn(process.execPath, ['images/main.ts', '--strict'], {
    cwd: sourceRoot,
    stdio: ['ignore', 2, 2],
    timeout: imagesTimeoutMs,
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', resolve)
  })
  if (code !== 0) throw new Error('building the images failed; the lines above say why')
}

/** Where Debian puts it; the package excludes OpenZFS's tools. */
const zfsFuse = '/usr/sbin/zfs-fuse'

/** zfs-fuse loses writes that were synced when the power goes (host/container/README.md). */
function tellOfZfsFuse(progress: Progress): void {
  if (!existsSync(zfsFuse)) return
  const advice = 'for production install ZFS for the kernel first (zfs-dkms and zfsutils-linux)'
  progress.info('volumes', `this kernel has no ZFS, zfs-fuse keeps the data: good for a trial, ${advice}`)
}

type InstallOptions = { readonly prebuilt: boolean; readonly start: boolean }

async function install(progress: Progress, { prebuilt, start }: InstallOptions): Promise<void> {
  const step = async (label: string, work: () => Promise<string | undefined>) => {
    progress.start(label)
    try {
      progress.done(label, await work())
    } catch (e) {
      progress.error(label, describeError(e))
      throw e
    }
  }
  if (!prebuilt) {
    await step('Debian packages', async () => {
      await installPackages('images')
      return undefined
    })
    progress.info('images', 'building what changed; the first time takes a few minutes')
    // What runs a host is not needed until they are built.
    const host = installPackages('host').then(() => progress.done('Debian packages of a host'))
    for (const result of await Promise.allSettled([buildImages(), host]))
      if (result.status === 'rejected') throw result.reason
  }
  tellOfZfsFuse(progress)
  await step('files', async () => `${await installFiles()} layers`)
  if (!start) return
  await step('flynn-host', async () => {
    await startDaemon({ restart: true })
    return undefined
  })
}

function closing(result: { readonly url: string; readonly addLine: string }, seconds: number): string {
  return `
The guestbook answers ${seconds} seconds after the start:

  curl ${result.url}

Next steps, as you are on this machine:

  flynn -a guestbook log -f          its log
  flynn -a guestbook scale web=2     a second process
  flynn -a guestbook pg psql         its database
  flynn create hello                 an app of your own, then: flynn -a hello deploy DIR
  flynn-host ps                      every job of this host

On another machine, with the domain pointing here:

  ${result.addLine}
`
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quickstart: { type: 'boolean' },
      domain: { type: 'string' },
      prebuilt: { type: 'boolean' },
      'no-start': { type: 'boolean' },
      clean: { type: 'boolean' },
      remove: { type: 'boolean' },
      yes: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) {
    process.stdout.write(usage)
    return
  }
  const begunMs = Number(process.env['FLYNN_INSTALL_STARTED'] ?? Date.now() / 1000) * 1000
  const progress = stderrProgress(begunMs)
  if (values.remove || values.clean) {
    if (!values.yes && !(await confirm())) return
    await remove(progress)
    if (values.remove) return
  }
  const start = !values['no-start']
  await install(progress, { prebuilt: values.prebuilt ?? false, start })
  if (!start) {
    process.stdout.write(
      '\nFlynn is installed. Next: flynn-host init, then start the daemon: flynn-host daemon\n',
    )
    return
  }
  const domain = values.domain ?? (process.env['CLUSTER_DOMAIN'] || defaultDomain)
  if (!values.quickstart) {
    process.stdout.write(`\nflynn-host runs. Next: sudo CLUSTER_DOMAIN=${domain} flynn-host bootstrap\n`)
    return
  }
  const result = await quickstart(domain, progress)
  process.stdout.write(closing(result, Math.round((Date.now() - begunMs) / 1000)))
}

main().catch(e => {
  process.stderr.write(`install-flynn: ${describeError(e)}\n`)
  process.exitCode = 1
})
