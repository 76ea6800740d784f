// What the steps of a bootstrap share: the hosts that answered, the data of earlier steps, and clients of the cluster
// that is coming up. Runs on a host, where no discoverd DNS answers, so names are resolved over HTTP.
import { createHash } from 'node:crypto'
import { ControllerClient } from '../controller/client.ts'
import { DiscoverdClient } from '../discoverd/client.ts'
import type { HostClient } from '../host/client.ts'
import { errors } from './errors.ts'
import { renderEnv, renderTemplate, type TemplateContext } from './template.core.ts'

export type BootstrapHost = {
  readonly id: string
  /** Address without a port. */
  readonly address: string
  readonly version: string
  readonly client: HostClient
}

export type BootstrapOptions = {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly minHosts: number
  readonly singleton: boolean
  readonly hostTimeoutMs: number
  readonly jobTimeoutMs: number
  readonly signal: AbortSignal
  /** Keeps step data, also in the middle of a step, for the next run. */
  readonly save: (data: Readonly<Record<string, unknown>>) => Promise<void>
}

/** How long a step waits for a controller to be registered, and asks again while it is away: hosts are busy coming up. */
export const controllerWaitMs = 60_000

export class BootstrapContext {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly options: BootstrapOptions
  readonly hosts: readonly BootstrapHost[]
  readonly stepData: Record<string, unknown>
  /** Set by the engine for each step. */
  info: (message: string) => void = () => undefined
  #discoverd: DiscoverdClient | undefined

  constructor(
    options: BootstrapOptions,
    hosts: readonly BootstrapHost[],
    stepData: Readonly<Record<string, unknown>>,
  ) {
    this.options = options
    this.env = options.env
    this.hosts = hosts
    this.stepData = { ...stepData }
  }

  get discoverd(): DiscoverdClient {
    this.#discoverd ??= new DiscoverdClient({ servers: this.hosts.map(h => `http://${h.address}:1111`) })
    return this.#discoverd
  }

  /** The controller, reached through an instance of now; its key is what a gen-random step with controller_key made. */
  async controller(): Promise<ControllerClient> {
    const key = Object.values(this.stepData).find(isControllerKey)?.data
    if (key === undefined) throw errors.STEP_NOT_RUN({ step: 'a controller step', needs: 'controller-key' })
    const found = await this.discoverd.instancesWithTimeout(
      'controller',
      controllerWaitMs,
      this.options.signal,
    )
    return new ControllerClient({ url: `http://${found[0]?.addr}`, key, retryMs: controllerWaitMs })
  }

  /** Data of an earlier step, in the shape that its action makes. */
  data<T>(step: string, needs: string): T {
    const value = this.stepData[needs]
    if (value === undefined) throw errors.STEP_NOT_RUN({ step, needs })
    return value as T
  }

  /** Keeps something of a step before the step is done, so that a second run goes on with it. */
  async keep<T>(key: string, make: () => T | Promise<T>): Promise<T> {
    if (this.stepData[key] === undefined) {
      this.stepData[key] = await make()
      await this.options.save(this.stepData)
    }
    return this.stepData[key] as T
  }

  /** Counts above one become one where there is one host only. */
  clamp(processes: Readonly<Record<string, number>>): Record<string, number> {
    return Object.fromEntries(
      Object.entries(processes).map(([type, count]) => [
        type,
        this.options.singleton ? Math.min(count, 1) : count,
      ]),
    )
  }

  async close(): Promise<void> {
    await this.#discoverd?.close()
  }
}

function isControllerKey(value: unknown): value is { readonly data: string } {
  return typeof value === 'object' && value !== null && 'controller_key' in value && 'data' in value
}

function templateContext(context: BootstrapContext): TemplateContext {
  return {
    env: context.env,
    stepData: context.stepData,
    singleton: context.options.singleton,
    sortedHostIps: context.hosts.map(h => h.address).sort(),
    clusterUrl: '',
    minHosts: context.options.minHosts,
    md5: text => createHash('md5').update(text).digest('hex'),
  }
}

export function render(source: string, context: BootstrapContext): string {
  return renderTemplate(source, templateContext(context))
}

export function renderEnvironment(
  env: Readonly<Record<string, string>>,
  context: BootstrapContext,
): Record<string, string> {
  return renderEnv(env, templateContext(context))
}
