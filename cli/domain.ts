// `flynn cluster migrate-domain` (contract cli.md 8.8): the cluster gets new names and certificates, and this
// program's configuration follows.
import type { DomainMigration } from '../controller/types.ts'
import { type Cluster, saveConfig } from './config.ts'
import type { CommandContext } from './context.ts'
import { openEvents } from './deploying.ts'
import { errors } from './errors.ts'
import { forgetGitAccess, setUpGitAccess } from './git-access.ts'
import { confirm } from './prompt.ts'
import { goDuration } from './times.ts'
import { parse } from './usage.ts'

export const migrationTimeoutSeconds = 120
const variable = 'DEFAULT_ROUTE_DOMAIN'

type Told = { readonly domain_migration: DomainMigration; readonly error?: string }

/** Resolves with the finished migration. */
async function migrate(context: CommandContext, old: string, domain: string): Promise<DomainMigration> {
  const client = await context.client()
  const signal = AbortSignal.timeout(migrationTimeoutSeconds * 1000)
  const events = await openEvents<Told>(client, { types: ['domain_migration'], signal })
  try {
    const { id } = await client.migrateDomain({ id: '', old_domain: old, domain })
    for await (const event of events) {
      const { domain_migration: migration, error } = event.data
      if (migration.id !== id) continue
      if (error) throw errors.DOMAIN_FAILED({ reason: error })
      if (migration.finished_at) return migration
    }
  } catch (e) {
    throw signal.aborted ? errors.DOMAIN_TIMEOUT({ seconds: migrationTimeoutSeconds }) : e
  } finally {
    events.close()
  }
  throw errors.DOMAIN_FAILED({ reason: 'the event stream ended before the migration did' })
}

/** The same cluster under its new names. */
export function movedCluster(cluster: Cluster, migration: DomainMigration): Cluster {
  const { domain, tls_cert } = migration
  return {
    ...cluster,
    ...(tls_cert?.pin ? { TLSPin: tls_cert.pin } : {}),
    ControllerURL: `https://controller.${domain}`,
    GitURL: cluster.GitURL === '' ? '' : `https://git.${domain}`,
    ImageURL: `https://images.${domain}`,
    ...(cluster.DockerPushURL ? { DockerPushURL: `https://docker.${domain}` } : {}),
  }
}

export async function migrateDomain(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 1, max: 1, options: { yes: { type: 'boolean', short: 'y' } } })
  const [domain = ''] = args.rest
  const client = await context.client()
  const old = (await client.appRelease('controller')).env?.[variable]
  if (!old) throw errors.DOMAIN_UNKNOWN()
  const question = `Migrate cluster domain from "${old}" to "${domain}"?`
  if (!args.flag('yes') && !(await confirm(question))) {
    context.out('Aborted\n')
    return
  }
  if (!args.json)
    context.out(
      `Migrating cluster domain (this can take up to ${goDuration(migrationTimeoutSeconds * 1000)})...\n`,
    )
  const migration = await migrate(context, old, domain)
  if (!args.json) context.out(`Changed cluster domain from "${old}" to "${domain}"\n`)
  const before = await context.cluster()
  const after = movedCluster(before, migration)
  const config = await context.config()
  const clusters = config.clusters.map(c => (c.Name === before.Name ? after : c))
  await saveConfig(context.configPath, { ...config, clusters })
  if (before.GitURL) {
    await forgetGitAccess(before.GitURL)
    await setUpGitAccess(after, migration.tls_cert?.ca_cert ?? '')
  }
  context.print(args, { old_domain: old, domain }, 'Updated local CLI configuration\n')
}
