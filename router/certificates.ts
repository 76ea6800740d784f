// Which certificates HAProxy can take, and how it is given one while it runs. A certificate that it would refuse is left
// out, because a single one in its list keeps a starting HAProxy down.
import { createSecureContext } from 'node:tls'
import { type HaproxyRuntime, payloadBytesMax } from '../pkg/haproxy/runtime.ts'
import { errors } from './errors.ts'
import { files, type RouterSettings } from './frontend.core.ts'
import type { HostCertificate } from './host-certificates.core.ts'
import { certificateLine, certificatePath } from './maps.core.ts'
import type { Desired } from './table.core.ts'

export class CertificateCheck {
  readonly #judged = new Map<string, string | undefined>()
  /** Of which none was bad. */
  #good: Desired['certificates'] | undefined
  readonly #onBad: (name: string, reason: string) => void

  constructor(onBad: (name: string, reason: string) => void) {
    this.#onBad = onBad
  }

  /** Why HAProxy cannot use it; undefined when it can. OpenSSL looks once at each name. */
  reason(certificate: HostCertificate): string | undefined {
    const { name, pem } = certificate
    if (this.#judged.has(name)) return this.#judged.get(name)
    let reason: string | undefined
    try {
      createSecureContext({ cert: pem, key: pem })
    } catch (e) {
      reason = e instanceof Error ? e.message : String(e)
    }
    this.refuse(name, reason)
    return reason
  }

  /** HAProxy itself has refused it, or has no objection. */
  refuse(name: string, reason: string | undefined): void {
    this.#judged.set(name, reason)
    this.#good = undefined
    if (reason !== undefined) this.#onBad(name, reason)
  }

  /** The same wishes with the certificates that can be served; names of others get the default one. */
  usable(desired: Desired): Desired {
    if (desired.certificates === this.#good) return desired
    for (const name of this.#judged.keys()) if (!desired.certificates.has(name)) this.#judged.delete(name)
    const bad = [...desired.certificates.values()].filter(c => this.reason(c) !== undefined)
    if (bad.length === 0) {
      this.#good = desired.certificates
      return desired
    }
    const certificates = new Map(desired.certificates)
    for (const { name } of bad) certificates.delete(name)
    return { ...desired, certificates }
  }
}

async function expect(runtime: HaproxyRuntime, command: string, good: RegExp, body?: string): Promise<void> {
  const answer = await (body === undefined ? runtime.command(command) : runtime.payload(command, body))
  if (!good.test(answer)) throw errors.COMMAND_REFUSED({ command, answer })
}

/** True when it was taken; false when HAProxy said no to the certificate itself. Rejects with the connection. */
export async function addCertificate(
  runtime: HaproxyRuntime,
  settings: RouterSettings,
  certificate: HostCertificate,
): Promise<void> {
  const path = certificatePath(settings, certificate.name)
  // Blank lines end a payload.
  const pem = certificate.pem.replaceAll(/\n\s*\n/g, '\n')
  if (Buffer.byteLength(pem) > payloadBytesMax)
    throw errors.CERTIFICATE_TOO_LONG({ bytes: Buffer.byteLength(pem), max: payloadBytesMax })
  await expect(runtime, `new ssl cert ${path}`, /^New empty/)
  try {
    await expect(runtime, `set ssl cert ${path}`, /^Transaction created/, pem)
    await expect(runtime, `commit ssl cert ${path}`, /Success!/)
    const list = `${settings.dir}/${files.certificateList}`
    await expect(runtime, `add ssl crt-list ${list}`, /Success!/, certificateLine(settings, certificate))
  } catch (e) {
    await runtime.command(`abort ssl cert ${path}`)
    await runtime.command(`del ssl cert ${path}`)
    throw e
  }
}

/** What HAProxy does not have is as good as deleted. */
export async function deleteCertificate(
  runtime: HaproxyRuntime,
  settings: RouterSettings,
  name: string,
): Promise<void> {
  const path = certificatePath(settings, name)
  const gone = /deleted|not found|doesn't exist|not exist/i
  await expect(runtime, `del ssl crt-list ${settings.dir}/${files.certificateList} ${path}`, gone)
  await expect(runtime, `del ssl cert ${path}`, gone)
}
