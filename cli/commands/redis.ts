// `flynn redis`: redis-cli and the Redis appliance's scripts (contract cli.md 8.6). redis-cli reads its password from
// REDISCLI_AUTH; the scripts get theirs from a shell inside the job.
import { type Access, type Appliance, applianceCommand } from '../appliance.ts'

const host = (access: Access) => `${access['FLYNN_REDIS'] ?? ''}.discoverd`
const script = (name: string, access: Access) => ({
  args: ['sh', '-c', `exec /bin/${name} -h "$1" -a "$REDIS_PASSWORD"`, name, host(access)],
})

const appliance: Appliance = {
  kind: 'redis',
  what: 'server',
  selector: 'FLYNN_REDIS',
  needed: ['REDIS_PASSWORD'],
  console: 'redis-cli',
  formats: false,
  parallel: false,
  consoleTool: (access, words) => ({
    args: ['redis-cli', '-h', host(access), ...words],
    env: { REDISCLI_AUTH: access['REDIS_PASSWORD'] ?? '' },
  }),
  dumpTool: access => script('dump-flynn-redis', access),
  restoreTool: access => script('restore-flynn-redis', access),
  usage: `usage: flynn redis redis-cli [--] [<argument>...]
       flynn redis dump [-q] [-f <file>]
       flynn redis restore [-q] [-f <file>]

Work on the Redis server of an app. Dumps are RDB files.

Options:
  -f, --file=<file>  file to write or read [default: standard output or input]
  -q, --quiet        no progress

Examples:
  $ flynn -a hello redis redis-cli -- DBSIZE
  $ flynn -a hello redis dump -f latest.rdb
`,
}

export const redis = applianceCommand(appliance)
