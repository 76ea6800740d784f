// `flynn version`, and two that do nothing any more: `flynn install` and `flynn update` (contract cli.md 8.10, 13).
import { version as flynnVersion } from '../../pkg/version/version.ts'
import type { Command } from '../command.ts'
import { errors } from '../errors.ts'
import { parse } from '../usage.ts'

export const version: Command = {
  usage: `usage: flynn version [--json]

Show the version of this program.

Example:
  $ flynn version
`,
  async run(argv, context) {
    const args = parse(argv, { max: 0 })
    context.print(args, { version: flynnVersion }, `${flynnVersion}\n`)
    return 0
  },
}

export const install: Command = {
  usage: `usage: flynn install

Deprecated: clusters are not installed by this program.

Example:
  $ flynn install
`,
  async run(argv, context) {
    parse(argv, { json: false })
    context.out(
      'flynn install is deprecated and does nothing. A cluster is installed on its hosts: run install-flynn there.\n',
    )
    return 0
  },
}

export const update: Command = {
  usage: `usage: flynn update

This program does not replace itself: it comes with the platform, from install-flynn.

Example:
  $ flynn update
`,
  async run(argv) {
    parse(argv, { max: 0, json: false })
    throw errors.NO_UPDATE({ version: flynnVersion })
  },
}
