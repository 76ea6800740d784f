// Steps that make values and look at the machine, without a cluster: require-env, gen-random, gen-tls-cert, log.
import { createPrivateKey, randomBytes, X509Certificate } from 'node:crypto'
import { Type } from 'typebox'
import { uuid } from '../../pkg/ids/ids.ts'
import { certificatePin, createClusterCertificate } from '../../pkg/tls/certificate.ts'
import { render } from '../context.ts'
import type { Action } from '../engine.ts'
import { errors } from '../errors.ts'

export const requireEnv: Action = {
  schema: Type.Object({ vars: Type.Array(Type.String()) }),
  always: true,
  async run(step, context) {
    const missing = (step['vars'] as string[]).filter(name => !context.env[name])
    if (missing.length > 0) throw errors.MISSING_ENV({ names: missing.join(', ') })
    return {}
  },
}

function encode(bytes: Buffer, encoding: string): string {
  switch (encoding) {
    case 'hex':
      return bytes.toString('hex')
    case 'base64':
      return bytes.toString('base64')
    case 'base64safe':
      return bytes.toString('base64url')
    default:
      throw errors.ENCODING_UNKNOWN({ encoding })
  }
}

const defaultRandomBytes = 16

export const genRandom: Action = {
  schema: Type.Object({
    length: Type.Optional(Type.Integer({ minimum: 1, maximum: 1024 })),
    encoding: Type.Optional(Type.String()),
    data: Type.Optional(Type.String()),
    controller_key: Type.Optional(Type.Boolean()),
  }),
  async run(step, context) {
    const given = typeof step['data'] === 'string' ? render(step['data'], context) : ''
    const encoding = (step['encoding'] as string | undefined) ?? 'hex'
    const made = () =>
      encoding === 'uuid'
        ? uuid()
        : encode(randomBytes((step['length'] as number | undefined) ?? defaultRandomBytes), encoding)
    const data = given || made()
    return { data: { data, ...(step['controller_key'] === true ? { controller_key: true } : {}) } }
  },
}

function givenCertificate(ca: string, cert: string, key: string) {
  try {
    if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key)))
      throw new Error('the key signs something else')
  } catch (e) {
    throw errors.CERTIFICATE_INVALID({ reason: e instanceof Error ? e.message : String(e) })
  }
  return { ca_cert: ca, cert, private_key: key, pin: certificatePin(cert) }
}

export const genTlsCert: Action = {
  schema: Type.Object({
    hosts: Type.Array(Type.String(), { minItems: 1 }),
    ca_cert: Type.Optional(Type.String()),
    cert: Type.Optional(Type.String()),
    key: Type.Optional(Type.String()),
  }),
  async run(step, context) {
    const field = (name: string) => render((step[name] as string | undefined) ?? '', context)
    const [ca, cert, key] = [field('ca_cert'), field('cert'), field('key')]
    const hosts = (step['hosts'] as string[]).map(host => render(host, context)) as [string, ...string[]]
    const data =
      ca && cert && key ? givenCertificate(ca, cert, key) : await createClusterCertificate(hosts, new Date())
    return { data, text: `pin: ${data.pin}` }
  },
}

export const log: Action = {
  schema: Type.Object({ output: Type.String() }),
  always: true,
  async run(step, context) {
    return { data: {}, text: `\n\n${render(step['output'] as string, context)}\n` }
  },
}
