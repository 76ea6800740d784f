// `flynn-host init`: writes the daemon's configuration file and the join key (contract host.md 1.1). The first host makes
// the key and prints what to run on the others; a host without it is turned away by them.
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { configErrors, findExternalIp, hostKey, keptKey } from '../config.ts'
import { hostPaths } from '../paths.ts'
import { beginAnew } from '../removal.ts'
import { type Command, type Context, type Flags, list, on, text, UsageError } from './command.ts'

/** Shorter ones can be guessed. */
const keyLengthMin = 16
const keyEnv = 'FLYNN_HOST_AUTH_KEY'
const serverEnv = 'DISCOVERY_SERVER'

function checkKey(key: string): string {
  if (key.length < keyLengthMin || !/^[\x21-\x7e]+$/.test(key))
    throw configErrors.JOIN_KEY({ min: keyLengthMin })
  return key
}

/** What the operator runs on each further host; `how` names the others. */
function joinLine(how: string, key: string): string {
  return `To add a host, install the same version of Flynn on it and run there:

  ${keyEnv}=${key} flynn-host init ${how}

Keep the key as you keep a password: whoever has it controls every host.
`
}

/** A new token, the given one, or none. A given one is not asked for here: its server may be up later. */
async function discoveryToken(flags: Flags, context: Context): Promise<string | undefined> {
  const given = text(flags, 'discovery')
  if (!on(flags, 'init-discovery')) return given
  if (given !== undefined) throw new UsageError('--init-discovery and --discovery exclude each other')
  const { createToken } = await import('../../discovery/client.ts')
  return createToken(context.env[serverEnv])
}

export const initCommand: Command = {
  name: 'init',
  summary: 'Write the configuration of the daemon',
  usage: `usage: flynn-host init [options]

Write the configuration of the daemon and the key that the hosts of a cluster share. Without a given key
this host keeps the one it has, or makes one, and prints what to run on the other hosts.

Options:
  --init-discovery     make a token at the server of ${serverEnv}, print it, and use it
  --discovery=<token>  form or join the cluster of the hosts that use this token (its whole URL)
  --peer-ips=<iplist>  form or join the cluster of these hosts, comma separated
  --external-ip=<ip>   address of this host; found out when not given
  --join-key=<key>     key of the cluster; better given in ${keyEnv}, which no process list shows
  --file=<name>        file to write [default: ${hostPaths().configFile}]

Examples:
  flynn-host init --external-ip=192.0.2.10
  ${keyEnv}=... flynn-host init --peer-ips=192.0.2.10,192.0.2.11
  ${serverEnv}=http://192.0.2.10:1180 flynn-host init --init-discovery
`,
  options: {
    'init-discovery': { type: 'boolean' },
    discovery: { type: 'string' },
    'peer-ips': { type: 'string' },
    'external-ip': { type: 'string' },
    'join-key': { type: 'string' },
    file: { type: 'string' },
  },
  positionals: { min: 0, max: 0 },
  async run({ flags }, context) {
    const token = await discoveryToken(flags, context)
    const paths = hostPaths()
    const aside = await beginAnew(paths)
    if (aside !== undefined)
      context.stderr.write(
        `This host was removed from its cluster and begins anew; what it had of volumes is in ${aside}\n`,
      )
    const given = text(flags, 'join-key') ?? (context.env[keyEnv] || undefined)
    const key = hostKey(paths, given === undefined ? keptKey(paths) : checkKey(given))
    const args = ['discovery', 'external-ip', 'peer-ips'].flatMap(name => {
      const value = name === 'discovery' ? token : text(flags, name)
      return value === undefined ? [] : [`--${name}`, value]
    })
    const file = text(flags, 'file') ?? paths.configFile
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, `${JSON.stringify({ args }, undefined, '\t')}\n`, { mode: 0o644 })
    if (on(flags, 'init-discovery')) context.stdout.write(`${token}\n`)
    if (given !== undefined) return 0
    const peers = list(flags, 'peer-ips')
    const own = text(flags, 'external-ip') ?? (await findExternalIp(paths.bridge))
    const ips = `--peer-ips=${(peers.length > 0 ? peers : [own]).join(',')}`
    context.stderr.write(joinLine(token === undefined ? ips : `--discovery=${token}`, key))
    return 0
  },
}
