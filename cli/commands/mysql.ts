// `flynn mysql`: mysql and mysqldump of the MariaDB appliance (contract cli.md 8.6). They read MYSQL_PWD themselves.
import { type Access, type Appliance, applianceCommand } from '../appliance.ts'

const client = (access: Access) => [
  'mysql',
  '-h',
  access['MYSQL_HOST'] ?? '',
  '-u',
  access['MYSQL_USER'] ?? '',
  '-D',
  access['MYSQL_DATABASE'] ?? '',
]

const mariadb: Appliance = {
  kind: 'mysql',
  what: 'database',
  selector: 'FLYNN_MYSQL',
  needed: ['MYSQL_HOST', 'MYSQL_USER', 'MYSQL_PWD', 'MYSQL_DATABASE'],
  console: 'console',
  formats: false,
  parallel: false,
  consoleTool: (access, words) => ({ args: [...client(access), ...words] }),
  dumpTool: access => ({
    args: [
      ...['mysqldump', '-h', access['MYSQL_HOST'] ?? '', '-u', access['MYSQL_USER'] ?? ''],
      access['MYSQL_DATABASE'] ?? '',
    ],
  }),
  restoreTool: access => ({ args: client(access) }),
  usage: `usage: flynn mysql console [--] [<argument>...]
       flynn mysql dump [-q] [-f <file>]
       flynn mysql restore [-q] [-f <file>]

Work on the MySQL database of an app. Dumps are SQL.

Options:
  -f, --file=<file>  file to write or read [default: standard output or input]
  -q, --quiet        no progress

Examples:
  $ flynn -a hello mysql console -- -e 'SHOW TABLES'
  $ flynn -a hello mysql dump -f latest.sql
`,
}

export const mysql = applianceCommand(mariadb)
