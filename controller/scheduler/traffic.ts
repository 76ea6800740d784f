// Follows what decides whether a job takes traffic: discoverd's instances of the services that process types name, the
// routes whose backends are drained, and what every router says of its backends (contracts controller.md 4.6, 4.7,
// router.md 3.2).
import type { DiscoverdClient, Instance } from '../../discoverd/client.ts'
import { HttpClient } from '../../pkg/http/client.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { type RouterEvent, routerApiService } from '../../router/types.ts'
import type { ControllerClient } from '../client.ts'
import type { Route } from '../types.ts'
import { jobUuidOf } from './convert.core.ts'
import { follow } from './follow.ts'
import type { Happening } from './state.core.ts'

export type TrafficOptions = {
  readonly discoverd: DiscoverdClient
  readonly controller: ControllerClient
  readonly log: Logger
  readonly signal: AbortSignal
  readonly dispatch: (happening: Happening) => void
}

const backendStatus = { 'backend-up': 'up', 'backend-down': 'down', 'backend-drained': 'drained' } as const

export class Traffic {
  readonly #options: TrafficOptions
  readonly #services = new Map<string, AbortController>()
  readonly #routers = new Map<string, AbortController>()

  constructor(options: TrafficOptions) {
    this.#options = options
  }

  /** Follows routes and routers until the signal aborts; services are added with `services`. */
  async run(): Promise<void> {
    await Promise.all([this.#followRoutes(), this.#followRouters()])
  }

  /** The services that matter now. */
  services(names: ReadonlySet<string>): void {
    for (const [name, stop] of this.#services)
      if (!names.has(name)) {
        stop.abort()
        this.#services.delete(name)
      }
    for (const name of names) if (!this.#services.has(name)) this.#followService(name)
  }

  #followService(service: string): void {
    const { discoverd, log, dispatch } = this.#options
    const stop = new AbortController()
    this.#services.set(service, stop)
    const signal = AbortSignal.any([stop.signal, this.#options.signal])
    const instances = new Map<string, Instance>()
    let complete = false
    let leader: string | undefined
    const tell = (): void => {
      if (!complete) return
      const jobs = [...instances.values()].flatMap(i => jobUuidOf(i.meta?.['FLYNN_JOB_ID']) ?? [])
      dispatch({ kind: 'service', service, jobs, ...(leader === undefined ? {} : { leader }) })
    }
    const watching = async (): Promise<void> => {
      for await (const event of discoverd.watch(service, { signal })) {
        if (event.kind === 'current') complete = true
        else if (event.kind === 'leader') leader = jobUuidOf(event.instance?.meta?.['FLYNN_JOB_ID'])
        else if (event.instance === undefined) continue
        else if (event.kind === 'down') instances.delete(event.instance.id)
        else instances.set(event.instance.id, event.instance)
        tell()
      }
    }
    watching().catch((err: unknown) => {
      if (signal.aborted) return
      log.error({ err, service }, 'watch of a service ended')
      this.#services.delete(service)
    })
  }

  async #followRoutes(): Promise<void> {
    const { controller, log, signal, dispatch } = this.#options
    const routes = new Map<string, Route>()
    await follow({
      what: 'routes',
      log,
      signal,
      stream: async alive => {
        for await (const change of controller.streamRoutes({
          signal,
          onLost: err => log.debug({ err }, 'route stream lost'),
        })) {
          alive()
          if (change.kind === 'sync') {
            routes.clear()
            for (const route of change.routes) routes.set(route.id, route)
          } else if (change.kind === 'set') routes.set(change.route.id, change.route)
          else routes.delete(change.route.id)
          const drained = [...routes.values()].filter(r => r.drain_backends).map(r => r.service)
          dispatch({ kind: 'routed', services: [...new Set(drained)] })
        }
      },
    })
  }

  async #followRouters(): Promise<void> {
    const { discoverd, signal, dispatch } = this.#options
    for await (const event of discoverd.watch(routerApiService, { signal })) {
      const { instance } = event
      if (instance === undefined) continue
      if (event.kind === 'up') this.#followRouter(instance)
      else if (event.kind === 'down') {
        this.#routers.get(instance.id)?.abort()
        this.#routers.delete(instance.id)
        // What it held counts as drained there.
        dispatch({ kind: 'routerGone', routerId: instance.id })
      }
    }
  }

  #followRouter(instance: Instance): void {
    const { log, dispatch } = this.#options
    this.#routers.get(instance.id)?.abort()
    const stop = new AbortController()
    this.#routers.set(instance.id, stop)
    const signal = AbortSignal.any([stop.signal, this.#options.signal])
    const http = new HttpClient({ url: `http://${instance.addr}` })
    const routerId = instance.id
    void follow({
      what: `events of router ${instance.addr}`,
      log,
      signal,
      stream: async alive => {
        const events = http.events<RouterEvent>('/events', {
          query: { types: Object.keys(backendStatus).join(',') },
          signal,
          retryMs: 0,
          onOpen: () => {
            alive()
            dispatch({ kind: 'router', routerId })
          },
        })
        for await (const { value } of events) {
          const uuid = jobUuidOf(value.backend?.job_id)
          if (uuid === undefined || value.backend === undefined || !(value.event in backendStatus)) continue
          const status = backendStatus[value.event as keyof typeof backendStatus]
          const { service, addr } = value.backend
          dispatch({ kind: 'backend', routerId, uuid, service, addr, status })
        }
      },
    })
  }
}
