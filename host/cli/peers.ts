// What `promote` and `demote` share: the peer list in the release of the discoverd app follows the cluster, so that hosts
// that come later are shown the way to those that vote now (contract host.md 1.6: the original only reminds its operator).
import type { ControllerClient } from '../../controller/client.ts'
import { PeerAdmin } from '../../discoverd/client.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { describeError, errorTable } from '../../pkg/errors/errors.ts'
import { newestJob } from './cli-add-command.ts'
import type { Context } from './command.ts'
import { reachableJobs } from './scheduler.ts'

/** discoverd is deployed host by host. */
export const deployTimeoutMs = 10 * 60_000
const deployPollMs = 1_000
const app = 'discoverd'
const peersEnv = 'DISCOVERD_PEERS'

const errors = errorTable({
  NO_CONTROLLER: { status: 503, message: 'no controller job runs' },
  DEPLOY_FAILED: { status: 500, message: 'the deployment {id} of discoverd failed' },
})

/** The form of the bootstrap manifest: sorted, each with port and comma. */
export function peerList(peers: readonly string[]): string {
  return [...peers]
    .sort()
    .map(p => `${p},`)
    .join('')
}

/** A client of the controller, by what the hosts know of its jobs. Hosts that do not answer are left out. */
export async function connectController(context: Context) {
  const { ControllerClient } = await import('../../controller/client.ts')
  const job = newestJob(await reachableJobs(context), 'controller', 'web')
  const key = job?.job.config.env?.['AUTH_KEY']?.split(',')[0]
  if (!job?.internal_ip || !key) throw errors.NO_CONTROLLER()
  return new ControllerClient({ url: `http://${job.internal_ip}`, key })
}

/** The controller's own names come from discoverd, which is what restarts: it may be out of reach for a while. */
async function waitDeployed(client: ControllerClient, id: string): Promise<void> {
  const state = await poll(
    async () => {
      const { status } = await client.deployment(id).catch(() => ({ status: undefined }))
      return status === 'complete' || status === 'failed' ? status : undefined
    },
    { timeoutMs: deployTimeoutMs, intervalMs: deployPollMs, what: 'the deployment of discoverd' },
  )
  if (state === 'failed') throw errors.DEPLOY_FAILED({ id })
}

/** Whether the end of the deployment is waited for. */
export type FollowOptions = { readonly wait?: boolean }

/** Answers what was done, for the operator. Rejects when the controller does not answer or the deployment fails. */
async function updateRelease(
  context: Context,
  peers: readonly string[],
  { wait = true }: FollowOptions,
): Promise<string> {
  const wanted = peerList(peers)
  const client = await connectController(context)
  const [{ id: appId }, current] = await Promise.all([client.app(app), client.appRelease(app)])
  const before = current.env?.[peersEnv] ?? ''
  if (peerList(before.split(',').filter(Boolean)) === wanted)
    return `The discoverd release ${current.id} has ${peersEnv}=${wanted} already.`
  const release = await client.createRelease({
    app_id: appId,
    artifacts: [...(current.artifacts ?? [])],
    env: { ...current.env, [peersEnv]: wanted },
    ...(current.meta ? { meta: { ...current.meta } } : {}),
    ...(current.processes ? { processes: { ...current.processes } } : {}),
  })
  const { id } = await client.createDeployment(app, release.id)
  context.stderr.write(`Deploying discoverd release ${release.id} with ${peersEnv}=${wanted}\n`)
  if (!wait) return `The deployment ${id} goes on by itself. See it with: flynn -a discoverd deployment`
  await waitDeployed(client, id)
  return `${peersEnv} of app discoverd is ${wanted} now (it was ${before || 'empty'}), release ${release.id}.`
}

/**
 * Brings the discoverd release to the peers that vote now, and says so. A cluster without a controller still has its change
 * of peers: then the operator is told what is left to do.
 */
export async function followPeers(
  context: Context,
  admin: PeerAdmin,
  options: FollowOptions = {},
): Promise<void> {
  const peers = await admin.peers()
  try {
    context.stderr.write(`${await updateRelease(context, peers, options)}\n`)
  } catch (e) {
    context.stderr.write(
      `The peers are ${peers.join(', ')}, but the discoverd release does not say so yet: ${describeError(e)}\n` +
        `Set it when the controller answers: flynn -a discoverd env set ${peersEnv}=${peerList(peers)}\n`,
    )
  }
}

/** The daemon of a discoverd that is not the given one and answers. */
export async function anotherPeer(context: Context, than: string): Promise<PeerAdmin> {
  const own = new PeerAdmin({
    addr: context.env['DISCOVERD']?.split(',')[0] || '127.0.0.1',
    authKey: context.authKey(),
  })
  if (own.url !== than) {
    try {
      await own.ping()
      return own
    } catch (e) {
      context.stderr.write(`${own.url} does not answer: ${describeError(e)}\n`)
    }
  }
  for (const host of await context.hosts()) {
    const addr = host.addr.slice(0, host.addr.lastIndexOf(':'))
    const admin = new PeerAdmin({ addr, authKey: context.authKey() })
    if (admin.url === than) continue
    const answers = await admin.ping().then(
      () => true,
      () => false,
    )
    if (answers) return admin
  }
  return own
}
