// A changed release and its deployment, as env, limit, resource, release and deploy commands make them (contract
// cli.md 8): followed to its end, job by job, on standard error; or only planned.
import type { ControllerClient } from '../controller/client.ts'
import type {
  App,
  ControllerEvent,
  DeploymentEvent,
  Job,
  Release,
  ReleaseInput,
} from '../controller/types.ts'
import type { CommandContext } from './context.ts'
import { errors } from './errors.ts'
import { followJobs } from './following.ts'
import { type Live, stderrLive } from './live.ts'
import { deploymentStep, diffReleases, type Plan } from './plan.core.ts'
import { goesOn, type PlanArgs } from './planning.ts'
import { sayOnQuit } from './quit.ts'

export type OpenEvents<Data> = AsyncIterable<ControllerEvent<Data>> & {
  next(): Promise<IteratorResult<ControllerEvent<Data>>>
  /** Ends the connection; reading to a `break` does, too. */
  close(): void
}

/**
 * Events from now on: resolves when the subscription stands, so that nothing of what the caller does next is missed.
 * The caller closes it, whatever happens.
 */
export async function openEvents<Data>(
  client: ControllerClient,
  options: Parameters<ControllerClient['streamEvents']>[0],
): Promise<OpenEvents<Data>> {
  const stop = new AbortController()
  const opened = Promise.withResolvers<void>()
  const events = client.streamEvents({
    ...options,
    signal: AbortSignal.any(options.signal ? [stop.signal, options.signal] : [stop.signal]),
    onOpen: () => opened.resolve(),
  }) as AsyncGenerator<ControllerEvent<Data>>
  const first = events.next()
  first.catch(opened.reject)
  await opened.promise
  let pending: typeof first | undefined = first
  const next = () => {
    const result = pending ?? events.next()
    pending = undefined
    return result
  }
  const close = () => stop.abort()
  const end = async () => {
    close()
    return { done: true as const, value: undefined }
  }
  return { next, close, [Symbol.asyncIterator]: () => ({ next, return: end }) }
}

/** Deploys a release and waits for the end. Rejects DEPLOY_FAILED with what the cluster says. */
export async function deployRelease(
  client: ControllerClient,
  app: Pick<App, 'id'>,
  releaseId: string,
  shown?: Live,
): Promise<void> {
  const live = shown ?? stderrLive()
  const restore = sayOnQuit('The deployment goes on: flynn deployment shows how it ends.')
  const events = await openEvents(client, { app: app.id, types: ['deployment', 'job'] })
  try {
    const deployment = await client.createDeployment(app.id, releaseId)
    if (deployment.finished_at) return
    const jobs = followJobs({ client, app: app.id, release: releaseId, live, lines: true })
    for await (const event of events) {
      if (event.object_type === 'job') jobs.event(event as ControllerEvent<Job>)
      else if (event.object_id === deployment.id && (await isComplete(event, jobs.settleFailed))) return
    }
  } finally {
    events.close()
    restore()
    if (shown === undefined) live.close()
  }
  throw errors.DEPLOY_FAILED({ reason: 'the event stream ended before the deployment did' })
}

async function isComplete(event: ControllerEvent, settle: () => Promise<void>): Promise<boolean> {
  const { status, error } = (event as ControllerEvent<DeploymentEvent>).data
  if (status === 'failed') {
    await settle()
    throw errors.DEPLOY_FAILED({ reason: error || 'no reason given' })
  }
  return status === 'complete'
}

/** A release as it is posted anew: without its id, for this app. */
export function copyRelease(release: Release | undefined, app: Pick<App, 'id'>): ReleaseInput {
  const { id: _id, created_at: _created, ...rest } = release ?? ({} as Partial<Release>)
  return { ...(rest as ReleaseInput), app_id: app.id }
}

export async function createAndDeploy(
  client: ControllerClient,
  app: Pick<App, 'id'>,
  input: ReleaseInput,
  shown?: Live,
): Promise<Release> {
  const release = await client.createRelease(input)
  await deployRelease(client, app, release.id, shown)
  return release
}

export type ReleaseChange = {
  readonly app: App
  readonly before: Release | undefined
  readonly after: ReleaseInput
  /** The release that is deployed; a new one when absent. */
  readonly to?: string
}

async function planOf(context: CommandContext, change: ReleaseChange): Promise<Plan> {
  const { app, before, after, to } = change
  const client = await context.client()
  const formations = before === undefined ? [] : await client.formations(app.id)
  const running = formations.find(f => f.release === before?.id)?.processes
  return {
    changes: diffReleases(before, after),
    steps: [deploymentStep({ strategy: app.strategy, running, to })],
  }
}

/** Whether the release is to be deployed: `--plan` shows what it would change first. */
export async function wantsRelease(
  context: CommandContext,
  args: PlanArgs,
  change: ReleaseChange,
): Promise<boolean> {
  return await goesOn(context, args, () => planOf(context, change))
}

/** Makes and deploys the release; undefined when `--plan` has shown what it would change and that was all. */
export async function changeRelease(
  context: CommandContext,
  args: PlanArgs,
  change: ReleaseChange,
): Promise<Release | undefined> {
  if (!(await wantsRelease(context, args, change))) return undefined
  return await createAndDeploy(await context.client(), change.app, change.after)
}
