// `flynn-host cli-add-command`: the line that makes a person's `flynn` know this cluster (contract host.md 1.3).
import { createHash, X509Certificate } from 'node:crypto'
import { errorTable } from '../../pkg/errors/errors.ts'
import { type ActiveJob, isActive } from '../types.ts'
import type { Command } from './command.ts'

const errors = errorTable({
  NO_CONTROLLER: {
    status: 404,
    message: 'no running controller job was found',
    remedy: 'bring the cluster up with: flynn-host bootstrap',
  },
  NO_ROUTER: {
    status: 404,
    message: 'no running router job with a certificate was found',
    remedy: 'see the jobs with: flynn-host ps -a',
  },
})

/** The newest running job of an app and process type. */
export function newestJob(jobs: readonly ActiveJob[], app: string, type: string): ActiveJob | undefined {
  return jobs
    .filter(
      j =>
        isActive(j) &&
        j.job.metadata?.['flynn-controller.app_name'] === app &&
        j.job.metadata['flynn-controller.type'] === type,
    )
    .sort((a, b) => (a.created_at < b.created_at ? 1 : -1))[0]
}

/** base64(sha256(DER)) of a certificate. */
export function pinOf(pem: string): string {
  return createHash('sha256').update(new X509Certificate(pem).raw).digest('base64')
}

export const cliAddCommand: Command = {
  name: 'cli-add-command',
  summary: "Show the command that adds this cluster to a person's flynn",
  usage: `usage: flynn-host cli-add-command

Show the command that adds this cluster to a person's flynn.

Example:
  flynn-host cli-add-command
`,
  positionals: { min: 0, max: 0 },
  async run(_args, context) {
    const lists = await Promise.all((await context.hosts()).map(h => h.client.jobs()))
    const jobs = lists.flatMap(l => Object.values(l))
    const controller = newestJob(jobs, 'controller', 'web')?.job.config.env
    const domain = controller?.['DEFAULT_ROUTE_DOMAIN']
    const key = controller?.['AUTH_KEY']?.split(',')[0]
    if (!domain || !key) throw errors.NO_CONTROLLER()
    const cert = newestJob(jobs, 'router', 'app')?.job.config.env?.['TLSCERT']
    if (!cert) throw errors.NO_ROUTER()
    context.stdout.write(
      `Install the flynn command, then add this cluster with:\n\nflynn cluster add -p ${pinOf(cert)} default ${domain} ${key}\n`,
    )
    return 0
  },
}
