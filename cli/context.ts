// What every command works with: the cluster and the app that are meant (contract cli.md 5), a client, and the two
// output streams. Data go to standard output, "done" notices to standard error. What only some commands need is loaded
// when they ask for it: starting fast is part of the promise (test/bench/cli-start.ts).
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { ControllerClient } from '../controller/client.ts'
import type { App, Release } from '../controller/types.ts'
import type { Cluster, Config } from './config.ts'
import { errors } from './errors.ts'
import type { GitApp } from './git.ts'
import { orUndefined } from './missing.ts'

export type GlobalFlags = { readonly app: string | undefined; readonly cluster: string | undefined }

const pinBytes = 32

/** Names below localhost are this machine, also where the resolver does not know that (RFC 6761, 6.3). */
export function dialAddress(url: string): string | undefined {
  const { hostname } = new URL(url)
  return hostname === 'localhost' || hostname.endsWith('.localhost') ? '127.0.0.1' : undefined
}

async function tokenFor(oauthUrl: string, controllerUrl: string): Promise<string> {
  const { accessToken } = await import('./token-store.ts')
  return (await accessToken(oauthUrl, controllerUrl)).access_token
}

/** Loads the client only when a command needs the cluster: it is most of what there is to load. */
export async function clientFor(cluster: Cluster): Promise<ControllerClient> {
  const pin = cluster.OAuthURL ? undefined : cluster.TLSPin
  if (pin && Buffer.from(pin, 'base64').length !== pinBytes) throw errors.PIN_INVALID({ pin })
  const { ControllerClient } = await import('./connection.ts')
  return new ControllerClient({
    url: cluster.ControllerURL,
    key: cluster.OAuthURL ? '' : (cluster.Key ?? ''),
    ...(cluster.OAuthURL ? { token: await tokenFor(cluster.OAuthURL, cluster.ControllerURL) } : {}),
    connect: { tlsPin: pin, address: dialAddress(cluster.ControllerURL) },
  })
}

export class CommandContext {
  readonly flags: GlobalFlags
  #config: Config | undefined
  #git: Promise<GitApp | undefined> | undefined
  #client: Promise<ControllerClient> | undefined
  #askedApp: string | undefined

  constructor(flags: GlobalFlags) {
    this.flags = flags
  }

  /** `FLYNNRC`, else `~/.flynnrc`. */
  get configPath(): string {
    return process.env['FLYNNRC'] || join(homedir(), '.flynnrc')
  }

  out(text: string): void {
    process.stdout.write(text)
  }

  notice(text: string): void {
    process.stderr.write(`${text}\n`)
  }

  /** Data on standard output: as one line of JSON when that was asked for, else as text. */
  print(args: { readonly json: boolean }, value: unknown, text: string): void {
    this.out(args.json ? `${JSON.stringify(value)}\n` : text)
  }

  /** Something is done: a notice on standard error, or what was made as JSON on standard output. */
  done(args: { readonly json: boolean }, value: unknown, notice: string): void {
    if (args.json) this.print(args, value, '')
    else this.notice(notice)
  }

  /** What the app was called when it was asked for; for suggestions once it was not found. */
  get askedApp(): string | undefined {
    return this.#askedApp
  }

  async config(): Promise<Config> {
    const { loadConfig } = await import('./config.ts')
    this.#config ??= await loadConfig(this.configPath)
    return this.#config
  }

  get #clusterName(): string | undefined {
    return this.flags.cluster ?? (process.env['FLYNN_CLUSTER'] || undefined)
  }

  async #candidates(): Promise<readonly Cluster[]> {
    const { clusters } = await this.config()
    const name = this.#clusterName
    return name === undefined ? clusters : clusters.filter(c => c.Name === name)
  }

  /** From `-a` as a remote, else from the repository unless the app is named otherwise. */
  #gitApp(): Promise<GitApp | undefined> {
    this.#git ??= (async () => {
      const clusters = await this.#candidates()
      const { appOfRemote, appOfRepository } = await import('./git.ts')
      if (this.flags.app !== undefined) return await appOfRemote(this.flags.app, clusters)
      return process.env['FLYNN_APP'] ? undefined : await appOfRepository(clusters)
    })()
    return this.#git
  }

  async cluster(): Promise<Cluster> {
    const config = await this.config()
    if (config.clusters.length === 0) throw errors.NO_CLUSTERS()
    const fromGit = await this.#gitApp().catch(() => undefined)
    if (fromGit) return fromGit.cluster
    const name = this.#clusterName
    const named = config.clusters.find(c => c.Name === (name ?? config.default))
    if (named) return named
    if (name !== undefined) throw errors.UNKNOWN_CLUSTER({ name })
    return config.clusters[0] as Cluster
  }

  async client(): Promise<ControllerClient> {
    this.#client ??= this.cluster().then(clientFor)
    return await this.#client
  }

  /** Name or id of the app that is meant; rejects NO_APP when nothing says. */
  async appName(): Promise<string> {
    const fromGit = await this.#gitApp()
    const name = fromGit?.app ?? this.flags.app ?? (process.env['FLYNN_APP'] || undefined)
    if (!name) {
      const { inRepository } = await import('./git.ts')
      throw (await inRepository()) ? errors.NO_APP_REMOTE() : errors.NO_APP()
    }
    this.#askedApp = name
    return name
  }

  async app(): Promise<App> {
    return await (await this.client()).app(await this.appName())
  }

  /** The app's current release; undefined before the first. Rejects when there is no such app. */
  async release(): Promise<Release | undefined> {
    const client = await this.client()
    const name = await this.appName()
    const release = await orUndefined(client.appRelease(name))
    if (release === undefined) await client.app(name)
    return release
  }

  async mustRelease(): Promise<Release> {
    const release = await this.release()
    if (!release) throw errors.NO_RELEASE({ app: await this.appName() })
    return release
  }
}
