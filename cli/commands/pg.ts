// `flynn pg`: psql, pg_dump and pg_restore of the Postgres appliance (contract cli.md 8.6).
import { type Appliance, applianceCommand } from '../appliance.ts'

const restoreWords = (database: string) => [
  ...['pg_restore', '-d', database, '-n', 'public'],
  ...['--clean', '--if-exists', '--no-owner', '--no-acl'],
]

const postgres: Appliance = {
  kind: 'postgres',
  what: 'database',
  selector: 'FLYNN_POSTGRES',
  needed: ['PGHOST', 'PGUSER', 'PGPASSWORD', 'PGDATABASE'],
  console: 'psql',
  formats: true,
  parallel: true,
  consoleTool: (_access, words) => ({ args: ['psql', ...words] }),
  dumpTool: (_access, format = 'custom') => ({
    args: ['pg_dump', `--format=${format}`, '--no-owner', '--no-acl'],
  }),
  restoreTool(access, jobs) {
    const words = restoreWords(access['PGDATABASE'] ?? '')
    if (jobs === 1) return { args: words }
    // Several jobs need a file to seek in: the dump is kept on the job's own volume first.
    const spooled = 'cat > /data/temp.dump && exec "$@" /data/temp.dump'
    return { args: ['sh', '-c', spooled, 'restore', ...words, '--jobs', String(jobs)], data: true }
  },
  usage: `usage: flynn pg psql [--] [<argument>...]
       flynn pg dump [-q] [-f <file>] [--format <format>]
       flynn pg restore [-q] [-j <jobs>] [-f <file>]

Work on the Postgres database of an app.

Options:
  -f, --file=<file>  file to write or read [default: standard output or input]
  -j, --jobs=<jobs>  restore with this many jobs [default: 1]
  --format=<format>  custom, plain or tar [default: custom]
  -q, --quiet        no progress

Examples:
  $ flynn -a hello pg psql -- -c 'SELECT count(*) FROM entries'
  $ flynn -a hello pg dump -f latest.dump
  $ flynn -a hello pg restore -f latest.dump
`,
}

export const pg = applianceCommand(postgres)
