// `flynn login` (contract cli.md 12): a person logs in at an issuer, in the browser or with a code, and the cluster is
// added without a key: calls carry tokens, which are renewed by themselves.
import { access, constants } from 'node:fs/promises'
import { createServer } from 'node:http'
import { delimiter, join } from 'node:path'
import { run } from '../../pkg/proc/run.ts'
import type { Command } from '../command.ts'
import { addCluster, type Cluster, type Config, saveConfig } from '../config.ts'
import { type CommandContext, clientFor } from '../context.ts'
import { errors } from '../errors.ts'
import { setUpGitHelper } from '../git-access.ts'
import {
  type Attempt,
  type Audience,
  authorizationUrl,
  beginAttempt,
  controllersOf,
  exchangeCode,
  type Issuer,
  type Offers,
  offersOf,
  outOfBand,
  parseIssuer,
} from '../oauth.ts'
import { ask } from '../prompt.ts'
import { accessToken, keepTokens } from '../token-store.ts'
import { parse } from '../usage.ts'

export const callbackPort = 8085
/** How long a person may take in the browser. */
export const browserTimeoutMs = 300_000
const controllerPrefix = 'https://controller.'

function issuerOf(given: string | undefined, config: Config): string {
  if (given !== undefined) return given
  const known = [...new Set(config.clusters.map(c => c.OAuthURL).filter(url => url !== undefined))]
  const [only] = known
  if (only === undefined || known.length > 1) throw errors.ISSUER_WANTED()
  return only
}

async function browser(): Promise<string | undefined> {
  const name = process.platform === 'darwin' ? 'open' : 'xdg-open'
  for (const dir of (process.env['PATH'] ?? '').split(delimiter)) {
    const file = join(dir, name)
    const there = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (there) return file
  }
  return undefined
}

/** The code that the browser brings back; rejects when it is not of this attempt, or does not come in time. */
function callback(attempt: Attempt, listening: () => void): Promise<string> {
  return new Promise((resolve, reject) => {
    const server = createServer((req, res) => {
      const query = new URL(req.url ?? '/', attempt.redirect).searchParams
      const code = query.get('code')
      const error = query.get('error')
      if (code === null && error === null) {
        res.writeHead(404).end()
        return
      }
      res.setHeader('connection', 'close')
      const own = query.get('state') === attempt.state
      res.end(own && code ? 'You are logged in and may close this page.\n' : 'The login failed.\n')
      if (!own) settle(() => reject(errors.LOGIN_FAILED({ reason: 'the answer belongs to another login' })))
      else if (code) settle(() => resolve(code))
      else settle(() => reject(errors.LOGIN_FAILED({ reason: error ?? '' })))
    })
    const settle = (end: () => void) => {
      clearTimeout(timer)
      server.close()
      end()
    }
    const late = () => reject(errors.LOGIN_FAILED({ reason: 'nobody logged in within 5 minutes' }))
    const timer = setTimeout(() => settle(late), browserTimeoutMs)
    server.once('error', e => settle(() => reject(e)))
    server.listen(callbackPort, '127.0.0.1', listening)
  })
}

type Login = { readonly code: string; readonly attempt: Attempt }

async function byBrowser(
  program: string,
  urlOf: (attempt: Attempt) => string,
  context: CommandContext,
): Promise<Login | undefined> {
  const attempt = beginAttempt(`http://127.0.0.1:${callbackPort}/`)
  try {
    const code = await callback(attempt, () => {
      context.notice(`Log in with the browser, at:\n\n${urlOf(attempt)}\n`)
      // A browser that cannot be opened leaves the address to be opened by hand.
      run([program, urlOf(attempt)]).catch(() => undefined)
    })
    return { code, attempt }
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'EADDRINUSE') return undefined
    throw e
  }
}

async function byCode(urlOf: (attempt: Attempt) => string, context: CommandContext): Promise<Login> {
  const attempt = beginAttempt(outOfBand)
  context.notice(`To log in, open this address in a browser:\n\n${urlOf(attempt)}\n`)
  return { code: await ask('Code: '), attempt }
}

/** By number or by a part of name or address. */
export function chosenController(list: readonly Audience[], answer: string): Audience | undefined {
  const byNumber = /^\d+$/.test(answer) ? list[Number(answer) - 1] : undefined
  const fitting = list.filter(a => a.Name.includes(answer) || a.URL.includes(answer))
  return byNumber ?? (answer !== '' && fitting.length === 1 ? fitting[0] : undefined)
}

async function choose(list: readonly Audience[], context: CommandContext): Promise<string> {
  if (list.length === 0) throw errors.LOGIN_FAILED({ reason: 'no cluster may be used with this account' })
  for (const [i, { Name, URL }] of list.entries()) context.notice(`${i + 1}. ${Name} (${URL})`)
  const answer = await ask('Cluster (number or part of the name): ')
  const one = chosenController(list, answer)
  if (!one) throw errors.LOGIN_FAILED({ reason: `"${answer}" is none of these clusters` })
  return one.URL
}

function clusterOf(controllerUrl: string, name: string | undefined, oauthUrl: string): Cluster {
  const domain = new URL(controllerUrl).host.replace(/^controller\./, '')
  return {
    Name: name ?? domain,
    OAuthURL: oauthUrl,
    ControllerURL: controllerUrl,
    GitURL: `https://git.${domain}`,
    ImageURL: `https://images.${domain}`,
  }
}

function parseLogin(argv: readonly string[]) {
  return parse(argv, {
    max: 1,
    options: {
      'controller-url': { type: 'string', short: 'c' },
      prompt: { type: 'boolean', short: 'p' },
      'cluster-name': { type: 'string', short: 'n' },
      'oob-code': { type: 'boolean' },
      force: { type: 'boolean', short: 'f' },
    },
  })
}

type Args = ReturnType<typeof parseLogin>

/** Logs in; resolves with the refresh token that was given. */
async function logIn(issuer: Issuer, offers: Offers, args: Args, context: CommandContext): Promise<string> {
  const audience = args.text('controller-url')
  const urlOf = (attempt: Attempt) => authorizationUrl(offers, issuer, attempt, audience)
  const program = args.flag('oob-code') ? undefined : await browser()
  const login = (program && (await byBrowser(program, urlOf, context))) || (await byCode(urlOf, context))
  const tokens = await exchangeCode(offers, issuer, login.attempt, { code: login.code, audience })
  return (await keepTokens(issuer, tokens, audience)).refresh_token
}

export const login: Command = {
  usage: `usage: flynn login [-c <controller-url> | -p] [-n <cluster-name>] [--oob-code] [-f] [--json] [<issuer>]

Log in at an issuer of tokens and add a cluster that is used with them instead of a key. Without options: log in again.

Options:
  -c, --controller-url=<url>  controller of the cluster to add
  -p, --prompt                choose among the clusters that the account may use
  -n, --cluster-name=<name>   name of the cluster [default: its domain]
  --oob-code                  type in a code instead of using a browser on this machine
  -f, --force                 replace an entry of the same name or URL
  --json                      print as JSON

Example:
  $ flynn login -p "https://login.example.com?client_id=flynn-cli"
`,
  async run(argv, context) {
    const args = parseLogin(argv)
    const config = await context.config()
    const oauthUrl = issuerOf(args.rest[0], config)
    const issuer = parseIssuer(oauthUrl)
    const given = args.text('controller-url')
    const name = args.text('cluster-name')
    if (given !== undefined && !given.startsWith(controllerPrefix))
      throw errors.CONTROLLER_URL({ url: given })
    const adds = given !== undefined || args.flag('prompt')
    const known = config.clusters.some(c => c.OAuthURL === oauthUrl)
    if (!adds && (!known || name !== undefined)) throw errors.LOGIN_WHERE()
    const offers = await offersOf(issuer)
    const refreshToken = await logIn(issuer, offers, args, context)
    if (!adds) {
      context.done(args, { issuer: oauthUrl }, `Logged in at ${issuer.url.host}.`)
      return 0
    }
    const url = given ?? (await choose(await controllersOf(offers, issuer, refreshToken), context))
    if (!url.startsWith(controllerPrefix)) throw errors.CONTROLLER_URL({ url })
    const cluster = clusterOf(url.replace(/\/+$/, ''), name, oauthUrl)
    const options = { force: args.flag('force'), makeDefault: false }
    const next = addCluster(config, cluster, options, context.configPath)
    await accessToken(oauthUrl, cluster.ControllerURL)
    // The configuration is written last: a cluster that does not let us in leaves nothing behind.
    await (await clientFor(cluster)).status()
    await setUpGitHelper(cluster)
    await saveConfig(context.configPath, next)
    const suffix = next.default === cluster.Name ? ' and set as default' : ''
    context.done(args, cluster, `Cluster "${cluster.Name}" added${suffix}.`)
    return 0
  },
}
