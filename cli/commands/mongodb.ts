// `flynn mongodb`: the MongoDB appliance's shell and scripts (contract cli.md 8.6). The password stays in the job's
// environment, which a shell inside the job hands on.
import { type Appliance, applianceCommand } from '../appliance.ts'

const access = '--host "$MONGO_HOST" -u "$MONGO_USER" -p "$MONGO_PWD"'
const shell = `command -v mongosh >/dev/null && set -- mongosh "$@" || set -- mongo "$@"
program=$1; shift
exec "$program" ${access} "$MONGO_DATABASE" "$@"`
const script = (name: string) => ['sh', '-c', `exec /bin/${name} ${access} --db "$MONGO_DATABASE"`]

const appliance: Appliance = {
  kind: 'mongodb',
  what: 'database',
  selector: 'FLYNN_MONGO',
  needed: ['MONGO_HOST', 'MONGO_USER', 'MONGO_PWD', 'MONGO_DATABASE'],
  console: 'mongo',
  formats: false,
  parallel: false,
  consoleTool: (_access, words) => ({ args: ['sh', '-c', shell, 'mongo', ...words] }),
  dumpTool: () => ({ args: script('dump-flynn-mongodb') }),
  restoreTool: () => ({ args: script('restore-flynn-mongodb'), data: true }),
  usage: `usage: flynn mongodb mongo [--] [<argument>...]
       flynn mongodb dump [-q] [-f <file>]
       flynn mongodb restore [-q] [-f <file>]

Work on the MongoDB database of an app. Dumps are tar archives of what mongodump writes.

Options:
  -f, --file=<file>  file to write or read [default: standard output or input]
  -q, --quiet        no progress

Examples:
  $ flynn -a hello mongodb mongo -- --eval 'db.stats()'
  $ flynn -a hello mongodb dump -f latest.dump
`,
}

export const mongodb = applianceCommand(appliance)
