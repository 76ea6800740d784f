// `flynn-host acme`: the cluster's account for automatic certificates (contracts host.md 11, router.md 7).
import type { AcmeConfig, AcmeConfigInput, ManagedCertificate } from '../../controller/types.ts'
import { table } from '../../pkg/table/table.ts'
import { type Command, type Context, type Flags, on, text, UsageError } from './command.ts'
import { connectController } from './peers.ts'

/** Let's Encrypt's, here and not from the controller's types: those load the whole schema. */
const production = 'https://acme-v02.api.letsencrypt.org/directory'
const staging = 'https://acme-staging-v02.api.letsencrypt.org/directory'

function wanted(flags: Flags): AcmeConfigInput {
  const [email, url] = [text(flags, 'email'), text(flags, 'directory-url')]
  const chosen = [url !== undefined, on(flags, 'staging'), on(flags, 'production')].filter(Boolean)
  if (chosen.length > 1) throw new UsageError('name one of --directory-url, --staging and --production')
  const directory = url ?? (on(flags, 'staging') ? staging : on(flags, 'production') ? production : undefined)
  return {
    ...(email === undefined ? {} : { contact_email: email }),
    ...(directory === undefined ? {} : { directory_url: directory }),
    ...(on(flags, 'agree-tos') ? { terms_of_service_agreed: true } : {}),
  }
}

function rows(config: AcmeConfig): string {
  return table([
    ['Enabled:', String(config.enabled)],
    ['Contact:', config.contact_email || '<none>'],
    ['Directory:', config.directory_url],
    ['Terms agreed:', String(config.terms_of_service_agreed)],
  ])
}

function certificateRows(certificates: readonly ManagedCertificate[]): string {
  const day = (time: string | undefined) => time?.slice(0, 16).replace('T', ' ') ?? ''
  const head = ['DOMAIN', 'STATUS', 'EXPIRES', 'NEXT ATTEMPT', 'LAST ERROR']
  const lines = certificates.map(c => [
    c.domain,
    c.status,
    day(c.expires_at),
    day(c.next_attempt_at),
    c.last_error ?? '',
  ])
  return table([head, ...lines])
}

async function status(context: Context, json: boolean): Promise<void> {
  const client = await connectController(context)
  const [config, certificates] = await Promise.all([client.acmeConfig(), client.managedCertificates()])
  const shown = json
    ? `${JSON.stringify({ config, certificates })}\n`
    : `${rows(config)}\n${certificateRows(certificates)}`
  context.stdout.write(shown)
}

async function change(context: Context, input: AcmeConfigInput, json: boolean): Promise<void> {
  const config = await (await connectController(context)).putAcmeConfig(input)
  context.stdout.write(json ? `${JSON.stringify(config)}\n` : rows(config))
}

export const acmeCommand: Command = {
  name: 'acme',
  summary: 'Automatic certificates: the account and how they stand',
  usage: `usage: flynn-host acme [status] [--json]
       flynn-host acme configure [--email=<address>] [--agree-tos] [--staging | --production | --directory-url=<url>] [--json]
       flynn-host acme enable [--json]
       flynn-host acme disable [--json]

Show or change the cluster's account with an ACME certificate authority, which issues the certificates of routes that
were added with --auto-tls. It must reach port 80 of the routers under the domains of those routes.

Options:
  --email=<address>      where the authority writes to
  --agree-tos            agree to the terms of service of the authority
  --staging              Let's Encrypt for trying out: no browser trusts it, its limits are far higher
  --production           Let's Encrypt; it is the authority unless another was named
  --directory-url=<url>  another authority; all certificates are issued anew
  --json                 print as JSON

Example:
  flynn-host acme configure --email=ops@example.com --agree-tos
  flynn-host acme enable
`,
  options: {
    email: { type: 'string' },
    'agree-tos': { type: 'boolean' },
    staging: { type: 'boolean' },
    production: { type: 'boolean' },
    'directory-url': { type: 'string' },
    json: { type: 'boolean' },
  },
  positionals: { min: 0, max: 1 },
  async run({ flags, rest: [verb = 'status'] }, context) {
    const json = on(flags, 'json')
    const input = wanted(flags)
    if (verb === 'configure') {
      if (Object.keys(input).length === 0) throw new UsageError('nothing to configure')
      await change(context, input, json)
      return 0
    }
    if (Object.keys(input).length > 0) throw new UsageError(`${verb} takes none of these options`)
    if (verb === 'status') await status(context, json)
    else if (verb === 'enable') await change(context, { enabled: true }, json)
    else if (verb === 'disable') await change(context, { enabled: false }, json)
    else throw new UsageError(`unknown verb ${verb}`)
    return 0
  },
}
