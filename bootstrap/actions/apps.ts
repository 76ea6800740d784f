// Steps that talk to the controller: register what run-app started, deploy the rest, providers, artifacts and routes.
// Each looks for its object first, so that a second run continues.
import { Type } from 'typebox'
import { type ControllerClient, orUndefined } from '../../controller/client.ts'
import { AppInput, ArtifactInput, type RouteInput } from '../../controller/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import { uuid } from '../../pkg/ids/ids.ts'
import type { ClusterCertificate } from '../../pkg/tls/certificate.ts'
import { type BootstrapContext, render } from '../context.ts'
import type { Action } from '../engine.ts'
import { errors } from '../errors.ts'
import { AppStep, type BootFormation, type BootResource, formationOf } from '../formation.ts'

export const scaleTimeoutMs = 5 * 60_000

async function providerId(client: ControllerClient, resource: BootResource): Promise<string> {
  const known = await orUndefined(client.provider(resource.provider))
  return (known ?? (await client.createProvider({ name: resource.provider, url: resource.url }))).id
}

/** App, artifacts, release and resources under the ids that they have already; what is there is left alone. */
async function register(client: ControllerClient, formation: BootFormation, app: AppInput): Promise<void> {
  const { id, name } = formation.app
  if (!(await orUndefined(client.app(id)))) await client.createApp({ ...app, id, name })
  for (const artifact of formation.artifacts) {
    if (!(await orUndefined(client.artifact(artifact.id)))) await client.createArtifact(artifact)
  }
  const { release } = formation
  if (!(await orUndefined(client.release(release.id)))) {
    await client.createRelease({
      id: release.id,
      app_id: id,
      artifacts: formation.artifacts.map(a => a.id),
      env: { ...release.env },
      processes: { ...release.processes },
    })
  }
  const linked = await client.appResources(id)
  for (const resource of formation.resources) {
    if (linked.some(r => r.external_id === resource.external_id)) continue
    const provider = await providerId(client, resource)
    await client.putResource(provider, uuid(), {
      provider,
      external_id: resource.external_id,
      env: { ...resource.env },
      apps: [id],
    })
  }
}

export const addApp: Action = {
  schema: Type.Object({ from_step: Type.String(), app: Type.Optional(AppInput) }),
  async run(step, context) {
    const formation = context.data<BootFormation>(step.id, step['from_step'] as string)
    const client = await context.controller()
    await register(client, formation, (step['app'] as AppInput | undefined) ?? (formation.app as AppInput))
    await client.putFormation(formation.app.id, formation.release.id, {
      processes: { ...formation.processes },
    })
    await client.setAppRelease(formation.app.id, formation.release.id)
    return { data: formation }
  },
}

/** Counts what the controller knows to be up, and says what is not when time is over. */
async function waitScaled(
  client: ControllerClient,
  formation: BootFormation,
  context: BootstrapContext,
): Promise<void> {
  let lacking = ''
  const scaled = async () => {
    const { pending_scale_request: pending } = await client.expandedFormation(
      formation.app.id,
      formation.release.id,
    )
    const jobs = await client.jobs(formation.app.id)
    const up = (type: string) =>
      jobs.filter(j => j.release === formation.release.id && j.type === type && j.state === 'up').length
    const short = Object.entries(formation.processes).filter(([type, count]) => up(type) < count)
    lacking =
      short.map(([type, count]) => `${type} ${up(type)} of ${count}`).join(', ') || 'the scale request'
    return pending === undefined && short.length === 0
  }
  const { signal } = context.options
  const what = `${formation.app.name}`
  await poll(scaled, { timeoutMs: scaleTimeoutMs, intervalMs: 100, signal, what }).catch(e => {
    signal.throwIfAborted()
    throw errors.WAIT_TIMEOUT(
      { what, seconds: scaleTimeoutMs / 1000, reason: `up: ${lacking}` },
      { cause: e },
    )
  })
}

export const deployApp: Action = {
  schema: AppStep,
  async run(step, context) {
    const formation = await formationOf(step, context)
    const client = await context.controller()
    await register(client, formation, step['app'] as AppInput)
    if (Object.values(formation.processes).some(n => n > 0)) {
      await client.putFormation(formation.app.id, formation.release.id, {
        processes: { ...formation.processes },
      })
      await waitScaled(client, formation, context)
    }
    await client.setAppRelease(formation.app.id, formation.release.id)
    return { data: formation }
  },
}

export const scaleApp: Action = {
  schema: Type.Object({
    app_step: Type.String(),
    processes: Type.Record(Type.String(), Type.Integer({ minimum: 0 })),
  }),
  async run(step, context) {
    const formation = context.data<BootFormation>(step.id, step['app_step'] as string)
    const processes = context.clamp(step['processes'] as Record<string, number>)
    const client = await context.controller()
    await client.putFormation(formation.app.id, formation.release.id, { processes })
    return { data: { processes } }
  },
}

export const createArtifact: Action = {
  schema: Type.Object({ artifact: ArtifactInput }),
  async run(step, context) {
    const input = step['artifact'] as ArtifactInput
    const id = await context.keep(`${step.id}.ids`, () => input.id ?? uuid())
    const client = await context.controller()
    const artifact =
      (await orUndefined(client.artifact(id))) ?? (await client.createArtifact({ ...input, id }))
    return { data: artifact }
  },
}

export const addProvider: Action = {
  schema: Type.Object({ name: Type.String(), url: Type.String() }),
  async run(step, context) {
    const client = await context.controller()
    const name = step['name'] as string
    const known = await orUndefined(client.provider(name))
    return { data: known ?? (await client.createProvider({ name, url: step['url'] as string })) }
  },
}

export const addRoute: Action = {
  schema: Type.Object({
    app_step: Type.String(),
    cert_step: Type.Optional(Type.String()),
    type: Type.Optional(Type.Enum(['http', 'tcp'])),
    service: Type.String(),
    domain: Type.Optional(Type.String()),
    port: Type.Optional(Type.Integer()),
    drain_backends: Type.Optional(Type.Boolean()),
  }),
  async run(step, context) {
    const formation = context.data<BootFormation>(step.id, step['app_step'] as string)
    const certStep = step['cert_step']
    const cert =
      typeof certStep === 'string' ? context.data<ClusterCertificate>(step.id, certStep) : undefined
    const { id: _id, action: _action, app_step: _app, cert_step: _cert, domain, ...rest } = step
    const route = {
      ...rest,
      type: (step['type'] as 'http' | 'tcp' | undefined) ?? 'http',
      ...(typeof domain === 'string' ? { domain: render(domain, context) } : {}),
      ...(cert ? { certificate: { cert: cert.cert, key: cert.private_key } } : {}),
    } as RouteInput
    const client = await context.controller()
    try {
      const { id, type, domain: made, port } = await client.createRoute(formation.app.id, route)
      return { data: { id, type, domain: made, port } }
    } catch (e) {
      if (!isFlynnError(e, 'conflict')) throw e
      return { data: { domain: route.domain, port: route.port } }
    }
  },
}
