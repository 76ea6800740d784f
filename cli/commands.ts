// Every command of the CLI, in the order in which help lists them. Modules are loaded when they are called for.
import type { CommandEntry } from './command.ts'

export const commands: readonly CommandEntry[] = [
  {
    name: 'cluster',
    summary: 'Manage clusters',
    load: async () => (await import('./commands/cluster.ts')).cluster,
  },
  { name: 'create', summary: 'Create an app', load: async () => (await import('./commands/apps.ts')).create },
  {
    name: 'deploy',
    summary: 'Deploy a directory',
    load: async () => (await import('./commands/deploy.ts')).deploy,
  },
  {
    name: 'info',
    summary: 'Show app information',
    load: async () => (await import('./commands/apps.ts')).info,
  },
  { name: 'apps', summary: 'List all apps', load: async () => (await import('./commands/apps.ts')).apps },
  { name: 'delete', summary: 'Delete an app', load: async () => (await import('./commands/apps.ts')).remove },
  { name: 'ps', summary: 'List jobs', load: async () => (await import('./commands/jobs.ts')).ps },
  {
    name: 'explain',
    summary: 'Say why a job is where it is',
    load: async () => (await import('./commands/explain.ts')).explain,
  },
  { name: 'kill', summary: 'Kill jobs', load: async () => (await import('./commands/jobs.ts')).kill },
  { name: 'log', summary: 'Get app log', load: async () => (await import('./commands/log.ts')).log },
  {
    name: 'scale',
    summary: 'Change formation',
    load: async () => (await import('./commands/scale.ts')).scale,
  },
  { name: 'run', summary: 'Run a job', load: async () => (await import('./commands/run.ts')).runCommand },
  {
    name: 'env',
    summary: 'Manage environment variables',
    load: async () => (await import('./commands/env.ts')).env,
  },
  {
    name: 'limit',
    summary: 'Manage resource limits',
    load: async () => (await import('./commands/limit.ts')).limit,
  },
  {
    name: 'meta',
    summary: 'Manage app metadata',
    load: async () => (await import('./commands/meta.ts')).meta,
  },
  { name: 'route', summary: 'Manage routes', load: async () => (await import('./commands/route.ts')).route },
  {
    name: 'release',
    summary: 'Manage app releases',
    load: async () => (await import('./commands/release.ts')).release,
  },
  {
    name: 'deployment',
    summary: 'List deployments',
    load: async () => (await import('./commands/deployment.ts')).deployment,
  },
  {
    name: 'volume',
    summary: 'Manage volumes',
    load: async () => (await import('./commands/volume.ts')).volume,
  },
  {
    name: 'remote',
    summary: 'Manage git remotes',
    load: async () => (await import('./commands/remote.ts')).remote,
  },
  {
    name: 'resource',
    summary: 'Manage app resources',
    load: async () => (await import('./commands/resource.ts')).resource,
  },
  {
    name: 'provider',
    summary: 'Manage resource providers',
    load: async () => (await import('./commands/resource.ts')).provider,
  },
  {
    name: 'pg',
    summary: 'Manage a postgres database',
    load: async () => (await import('./commands/pg.ts')).pg,
  },
  {
    name: 'mysql',
    summary: 'Manage a mysql database',
    load: async () => (await import('./commands/mysql.ts')).mysql,
  },
  {
    name: 'mongodb',
    summary: 'Manage a mongodb database',
    load: async () => (await import('./commands/mongodb.ts')).mongodb,
  },
  {
    name: 'redis',
    summary: 'Manage a redis database',
    load: async () => (await import('./commands/redis.ts')).redis,
  },
  {
    name: 'completion',
    summary: 'Print shell completion',
    load: async () => (await import('./commands/completion.ts')).completion,
  },
  {
    name: 'version',
    summary: 'Show flynn version',
    load: async () => (await import('./commands/version.ts')).version,
  },
  {
    name: 'login',
    summary: 'Log in at an issuer of tokens',
    hidden: true,
    load: async () => (await import('./commands/login.ts')).login,
  },
  {
    name: 'install',
    summary: 'Install a cluster',
    hidden: true,
    load: async () => (await import('./commands/version.ts')).install,
  },
  {
    name: 'update',
    summary: 'Update this program',
    hidden: true,
    load: async () => (await import('./commands/version.ts')).update,
  },
  {
    name: 'git-credentials',
    summary: 'Answer git',
    hidden: true,
    load: async () => (await import('./commands/git-credentials.ts')).gitCredentials,
  },
]

export function findCommand(name: string): CommandEntry | undefined {
  return commands.find(c => c.name === name)
}
