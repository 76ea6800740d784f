// The formation that a step describes, with the ids that it gets: what run-app starts by itself, add-app registers
// afterwards, and deploy-app creates through the controller.
import { type Static, Type } from 'typebox'
import { AppInput, type Artifact, ArtifactInput, ProcessType } from '../controller/types.ts'
import { HttpClient } from '../pkg/http/client.ts'
import { uuid } from '../pkg/ids/ids.ts'
import { type BootstrapContext, renderEnvironment } from './context.ts'
import { errors } from './errors.ts'
import type { Step } from './manifest.ts'

const Counts = Type.Record(Type.String(), Type.Integer({ minimum: 0 }))

export const AppStep = Type.Object({
  app: AppInput,
  artifacts: Type.Array(ArtifactInput, { minItems: 1 }),
  release: Type.Object({
    env: Type.Optional(Type.Record(Type.String(), Type.String())),
    processes: Type.Optional(Type.Record(Type.String(), ProcessType)),
  }),
  processes: Type.Optional(Counts),
  resources: Type.Optional(Type.Array(Type.Object({ name: Type.String(), url: Type.String() }))),
})
export type AppStep = Static<typeof AppStep>

export type BootApp = {
  readonly id: string
  readonly name: string
  readonly meta: Readonly<Record<string, string>>
  readonly strategy?: string
  readonly deploy_timeout?: number
}

export type BootRelease = {
  readonly id: string
  readonly env: Readonly<Record<string, string>>
  readonly processes: Readonly<Record<string, ProcessType>>
}

export type BootResource = {
  readonly provider: string
  readonly url: string
  readonly external_id: string
  readonly env: Readonly<Record<string, string>>
}

export type BootFormation = {
  readonly app: BootApp
  readonly release: BootRelease
  readonly artifacts: readonly Artifact[]
  readonly processes: Readonly<Record<string, number>>
  readonly resources: readonly BootResource[]
}

export const provisionTimeoutMs = 60_000

type Provisioned = { readonly id: string; readonly env: Readonly<Record<string, string>> }

async function provision(url: string, context: BootstrapContext): Promise<Provisioned> {
  const origin = async () => new URL(await context.discoverd.resolve(url)).origin
  try {
    return await new HttpClient({ url: origin }).post<Provisioned>(
      new URL(url).pathname,
      {},
      { timeoutMs: provisionTimeoutMs, retryMs: provisionTimeoutMs, signal: context.options.signal },
    )
  } catch (e) {
    throw errors.PROVIDER_FAILED({ url, reason: e instanceof Error ? e.message : String(e) }, { cause: e })
  }
}

/** The step's formation; ids and provisioned resources are kept for a second run of the same step. */
export async function formationOf(step: Step, context: BootstrapContext): Promise<BootFormation> {
  const spec = step as unknown as AppStep
  const ids = await context.keep(`${step.id}.ids`, () => ({
    app: spec.app.id ?? uuid(),
    release: uuid(),
    artifacts: spec.artifacts.map(a => a.id ?? uuid()),
  }))
  const resources: BootResource[] = []
  for (const { name, url } of spec.resources ?? []) {
    const made = await context.keep(`${step.id}.resource.${name}`, () => provision(url, context))
    resources.push({ provider: name, url, external_id: made.id, env: made.env })
  }
  const resourceEnv = Object.assign({}, ...resources.map(r => r.env)) as Record<string, string>
  return {
    app: {
      id: ids.app,
      name: spec.app.name ?? step.id,
      meta: spec.app.meta ?? {},
      ...(spec.app.strategy === undefined ? {} : { strategy: spec.app.strategy }),
      ...(spec.app.deploy_timeout === undefined ? {} : { deploy_timeout: spec.app.deploy_timeout }),
    },
    release: {
      id: ids.release,
      env: { ...resourceEnv, ...renderEnvironment(spec.release.env ?? {}, context) },
      processes: spec.release.processes ?? {},
    },
    artifacts: spec.artifacts.map((a, i) => ({ ...a, id: ids.artifacts[i] ?? uuid() }) as Artifact),
    processes: context.clamp(spec.processes ?? {}),
    resources,
  }
}
