// A host that was given a discovery token: it registers behind it at each start and learns who else did (contract host.md
// 6.1, 6.3). Whoever has the token can write addresses there, so an address is used only after it has proved that it has the
// key of the cluster; the key itself is shown to nobody before that. Only a new host needs the answer: the others go on with
// the hosts they know, for a token server that is away must not keep a cluster from coming back.
import { registerHost, tokenAddresses } from '../discovery/client.ts'
import { sleep } from '../pkg/clock/clock.ts'
import { isFlynnError } from '../pkg/errors/errors.ts'
import { randomHex } from '../pkg/ids/ids.ts'
import type { Logger } from '../pkg/log/log.ts'
import { version } from '../pkg/version/version.ts'
import { HostClient, hostUrl } from './client.ts'
import { joinErrors } from './join.ts'
import { isProof, nonceLength } from './proof.core.ts'

/** A host that does not answer by then is taken to be off. */
export const proveTimeoutMs = 5_000
/** A new host waits so long for one that registered and does not answer yet: it may be starting, as this one is. */
export const startingWaitMs = 10_000
const askAgainMs = 500

export type ByTokenOptions = {
  readonly discovery: string | undefined
  readonly hostId: string
  readonly externalIp: string
  readonly httpPort: number
  /** Key of the cluster; undefined on a host that has none yet. */
  readonly key: string | undefined
  /** It has no state of an earlier life. */
  readonly isNew: boolean
  readonly log: Logger
}

type Answer = 'proved' | 'wrong' | 'silent'

async function prove(address: string, key: string): Promise<Answer> {
  const nonce = randomHex(nonceLength / 2)
  try {
    const { proof } = await new HostClient({ url: hostUrl(address) }).prove(nonce, {
      retryMs: 0,
      timeoutMs: proveTimeoutMs,
    })
    return isProof(proof, key, nonce, address) ? 'proved' : 'wrong'
  } catch (e) {
    // Something answers there that is no host of ours; one that is about to end says 503.
    return isFlynnError(e) && e.status < 500 ? 'wrong' : 'silent'
  }
}

/** Asks those again that are silent, for `waitMs` at most, until one has proved that it has the key. */
async function proveAll(others: readonly string[], key: string, waitMs: number): Promise<readonly Answer[]> {
  const until = performance.now() + waitMs
  for (;;) {
    const answers = await Promise.all(others.map(address => prove(address, key)))
    const settled = answers.includes('proved') || !answers.includes('silent')
    if (settled || performance.now() >= until) return answers
    await sleep(askAgainMs)
  }
}

/** Addresses of the other hosts behind the token that have the key of this one; none without a token. */
export async function findByToken(options: ByTokenOptions): Promise<readonly string[]> {
  const { discovery, isNew, log } = options
  if (discovery === undefined) return []
  try {
    return await ask(discovery, options)
  } catch (err) {
    if (isNew) throw err
    log.warn({ err }, 'nothing was learned by the token, going on with the hosts known before')
    return []
  }
}

async function ask(token: string, options: ByTokenOptions): Promise<readonly string[]> {
  const { hostId, externalIp, httpPort, key, log } = options
  const url = `http://${externalIp.includes(':') ? `[${externalIp}]` : externalIp}:${httpPort}`
  await registerHost(token, { name: hostId, url, flynn_version: version })
  const others = (await tokenAddresses(token)).filter(address => address !== externalIp)
  if (others.length === 0) return []
  if (key === undefined) throw joinErrors.NO_JOIN_KEY({ peers: others.join(', ') })
  const answers = await proveAll(others, key, options.isNew ? startingWaitMs : 0)
  const those = (answer: Answer) => others.filter((_, i) => answers[i] === answer)
  const [proved, wrong, silent] = [those('proved'), those('wrong'), those('silent')]
  log.info({ proved, wrong, silent }, 'hosts behind the discovery token')
  if (proved.length > 0 || wrong[0] === undefined) return proved
  // Whoever has the token can register there: as long as a genuine host may only be off, this one is not turned away for good.
  if (silent.length > 0) throw joinErrors.NOT_PROVED({ wrong: wrong[0], silent: silent.join(', ') })
  throw joinErrors.WRONG_KEY({ peer: wrong[0] })
}
