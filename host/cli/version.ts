// `flynn-host version` (contract host.md 1.3).
import { releaseOf, version } from '../../pkg/version/version.ts'
import { type Command, on } from './command.ts'

export const versionCommand: Command = {
  name: 'version',
  summary: 'Show the version',
  usage: `usage: flynn-host version [--release]

Show the version.

Options:
  --release  without the commit

Example:
  flynn-host version
`,
  options: { release: { type: 'boolean' } },
  positionals: { min: 0, max: 0 },
  async run({ flags }, context) {
    context.stdout.write(`${on(flags, 'release') ? releaseOf(version) : version}\n`)
    return 0
  },
}
