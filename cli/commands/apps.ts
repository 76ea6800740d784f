// `flynn create`, `apps`, `info`, `delete` (contract cli.md 8.1).
import type { ControllerClient } from '../../controller/client.ts'
import type { App, ControllerEvent } from '../../controller/types.ts'
import { table } from '../../pkg/table/table.ts'
import { firstUrl } from '../addresses.ts'
import type { Command } from '../command.ts'
import { openEvents } from '../deploying.ts'
import { errors } from '../errors.ts'
import { inRepository, remoteUrl, removeRemote, setRemote } from '../git.ts'
import type { Change, Plan } from '../plan.core.ts'
import { goesOn } from '../planning.ts'
import { confirm } from '../prompt.ts'
import { parse } from '../usage.ts'

export const deleteTimeoutSeconds = 60

export const create: Command = {
  usage: `usage: flynn create [-r <remote>] [-y] [--json] [<name>]

Create an application. Without a name the cluster makes one up.

Options:
  -r, --remote=<remote>  name of the git remote to create, empty for none [default: flynn]
  -y, --yes              replace a remote without asking
  --json                 print the app as JSON

Example:
  $ flynn create hello
  Created hello
`,
  async run(argv, context) {
    const args = parse(argv, {
      max: 1,
      options: { remote: { type: 'string', short: 'r' }, yes: { type: 'boolean', short: 'y' } },
    })
    const remote = args.text('remote') ?? 'flynn'
    const withRemote = remote !== '' && (await inRepository())
    if (withRemote && !args.flag('yes') && (await remoteUrl(remote)) !== undefined) {
      if (
        !(await confirm(
          `There is already a git remote called ${remote}, are you sure you want to replace it?`,
        ))
      ) {
        context.notice('No app was created. Choose another remote with --remote, or none with --remote ""')
        return 0
      }
    }
    const [name] = args.rest
    const app = await (await context.client()).createApp(name === undefined ? {} : { name })
    const { GitURL } = await context.cluster()
    if (withRemote && GitURL) await setRemote(remote, `${GitURL}/${app.name}.git`)
    context.done(args, app, `Created ${app.name}`)
    return 0
  },
}

export const apps: Command = {
  usage: `usage: flynn apps [--json]

List the apps of the cluster, newest first.

Options:
  --json  print as JSON

Example:
  $ flynn apps
`,
  async run(argv, context) {
    const args = parse(argv, { max: 0 })
    const list = await (await context.client()).apps()
    context.print(args, list, table([['ID', 'NAME'], ...list.map(a => [a.id, a.name])]))
    return 0
  },
}

export const info: Command = {
  usage: `usage: flynn info [--json]

Show the addresses of an app.

Options:
  --json  print app and addresses as JSON

Example:
  $ flynn -a hello info
`,
  async run(argv, context) {
    const args = parse(argv, { max: 0 })
    const client = await context.client()
    const app = await context.app()
    const release = await context.release()
    const { GitURL } = await context.cluster()
    const byGit = GitURL !== '' && (!release || release.meta?.['git'] === 'true')
    const gitUrl = byGit ? `${GitURL}/${app.name}.git` : undefined
    const webUrl = await firstUrl(client, app.id).catch(() => undefined)
    const rows = [
      ...(gitUrl === undefined ? [] : [['Git URL:', gitUrl]]),
      ...(webUrl === undefined ? [] : [['Web URL:', webUrl]]),
    ]
    const value = { ...app, ...(gitUrl ? { git_url: gitUrl } : {}), ...(webUrl ? { web_url: webUrl } : {}) }
    context.print(args, value, `=== ${app.name}\n${table(rows)}`)
    return 0
  },
}

type Deletion = {
  readonly error?: string
  readonly app_deletion?: {
    readonly deleted_routes?: readonly unknown[] | null
    readonly deleted_releases?: readonly unknown[] | null
    readonly deleted_resources?: readonly unknown[] | null
  }
}

/** Deletes an app and resolves with what the cluster says when it is gone. */
async function deletion(
  client: ControllerClient,
  app: string,
): Promise<ControllerEvent<Deletion> | undefined> {
  const stop = AbortSignal.timeout(deleteTimeoutSeconds * 1000)
  const events = await openEvents<Deletion>(client, { app, types: ['app_deletion'], signal: stop })
  try {
    await client.deleteApp(app)
    const next = await events.next()
    return next.done ? undefined : next.value
  } catch (e) {
    throw stop.aborted ? errors.DELETE_TIMEOUT({ seconds: deleteTimeoutSeconds }) : e
  } finally {
    events.close()
  }
}

/** Everything that goes with an app. */
async function deletionPlan(client: ControllerClient, app: App): Promise<Plan> {
  const [routes, releases, resources] = await Promise.all([
    client.appRoutes(app.id),
    client.appReleases(app.id),
    client.appResources(app.id),
  ])
  const gone = (what: string): Change => ({ action: 'remove', what })
  return {
    changes: [
      gone(`app ${app.name}`),
      ...routes.map(r => gone(`route ${r.type}:${r.type === 'tcp' ? r.port : r.domain}${r.path ?? ''}`)),
      ...releases.map(r => gone(`release ${r.id}`)),
      ...resources.map(r => gone(`resource ${r.id} and its data`)),
    ],
    steps: ['its processes are stopped'],
  }
}

export const remove: Command = {
  usage: `usage: flynn delete [-y] [-r <remote>] [--plan] [--json]

Delete an app with its routes, releases and resources.

Options:
  -y, --yes              do not ask
  -r, --remote=<remote>  git remote to remove when it leads to the app [default: flynn]
  --plan                 show what would go; on a terminal, ask before it is done
  --json                 print what was deleted as JSON

Example:
  $ flynn -a hello delete
`,
  async run(argv, context) {
    const args = parse(argv, {
      max: 0,
      plan: true,
      options: { yes: { type: 'boolean', short: 'y' }, remote: { type: 'string', short: 'r' } },
    })
    const client = await context.client()
    const app = await context.app()
    if (!(await goesOn(context, args, () => deletionPlan(client, app)))) return 0
    const question = `Are you sure you want to delete the app "${app.name}"?`
    if (!args.plan && !args.flag('yes') && !(await confirm(question))) return 0
    const event = await deletion(client, app.id)
    const data = event?.data
    if (data?.error) throw errors.DELETION_FAILED({ reason: data.error })
    const remote = args.text('remote') ?? 'flynn'
    const { GitURL } = await context.cluster()
    if (remote && GitURL && (await remoteUrl(remote)) === `${GitURL}/${app.name}.git`)
      await removeRemote(remote)
    const count = (list: readonly unknown[] | null | undefined) => list?.length ?? 0
    const gone = data?.app_deletion
    context.done(
      args,
      { id: app.id, name: app.name, ...gone },
      `Deleted ${app.name} (removed ${count(gone?.deleted_routes)} routes, deleted ${count(gone?.deleted_releases)} releases, deprovisioned ${count(gone?.deleted_resources)} resources)`,
    )
    return 0
  },
}
