// Keys and tokens: who is let in, and under which name. Tokens are signed here as the original's issuer signs them.
import assert from 'node:assert/strict'
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { test } from 'node:test'
import { type AuthConfig, authFromEnv, identify } from './auth.ts'

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const tokenKey = pair.publicKey.export({ format: 'der', type: 'spki' }).toString('base64url')
const config = authFromEnv({ AUTH_KEY: 'one,two', AUTH_KEY_IDS: 'laptop,ci', ACCESS_TOKEN_KEY: tokenKey })

function field(number: number, value: string | Buffer | number): Buffer {
  if (typeof value === 'number') return Buffer.from([number << 3, ...varint(value)])
  const bytes = Buffer.from(value)
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...varint(bytes.length)]), bytes])
}

function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value % 0x80) | 0x80, ...varint(Math.floor(value / 0x80))]
}

const nowSeconds = (): number => Math.floor(Date.now() / 1000)

type Times = { readonly issued?: number; readonly expires?: number }

function token({ issued, expires }: Times, key: KeyObject = pair.privateKey): string {
  const data = Buffer.concat([
    field(1, 'client'),
    field(3, 'ann@example.test'),
    ...(issued === undefined ? [] : [field(4, field(1, issued))]),
    ...(expires === undefined ? [] : [field(5, field(1, expires))]),
  ])
  return `flynn.${Buffer.concat([field(1, data), field(2, sign('sha256', data, key))]).toString('base64url')}`
}

const fresh = (): Times => ({ issued: nowSeconds(), expires: nowSeconds() + 60 })
const bearer = (text: string, c: AuthConfig = config) => identify({ authorization: `Bearer ${text}` }, c)
const basic = (user: string, password: string, c: AuthConfig = config) =>
  identify({ authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` }, c)

test('each key lets in under its label, whatever the user name', () => {
  assert.deepEqual(basic('', 'one'), { id: 'laptop' })
  assert.deepEqual(basic('anybody', 'two'), { id: 'ci' })
  assert.deepEqual(identify({ 'auth-key': 'two' }, config), { id: 'ci' })
})

test('without a label for each key, keys are named by a fingerprint that is not the key', () => {
  const plain = authFromEnv({ AUTH_KEY: 'one,two', AUTH_KEY_IDS: 'laptop' })
  assert.match(basic('', 'one', plain)?.id ?? '', /^key:[0-9a-f]{12}$/)
  assert.notEqual(basic('', 'one', plain)?.id, basic('', 'two', plain)?.id)
})

test('no key, a wrong one and a part of one are refused', () => {
  for (const key of ['', 'onE', 'on', 'one,two', 'three']) assert.equal(basic('', key), undefined)
  assert.equal(identify({}, config), undefined)
})

test('a signed token lets in with the address of its user, also as the password of the user Bearer', () => {
  const identity = bearer(token(fresh()))
  assert.equal(identity?.user, 'ann@example.test')
  assert.match(identity?.id ?? '', /^[\w-]{43}$/)
  assert.equal(basic('Bearer', token(fresh()))?.user, 'ann@example.test')
})

test('a token that has expired, lasts too long, lacks a time or is not whole is refused', () => {
  const now = nowSeconds()
  assert.equal(bearer(token({ issued: now - 120, expires: now - 60 })), undefined)
  assert.equal(bearer(token({ issued: now, expires: now + 3_601 })), undefined)
  assert.equal(bearer(token({ issued: now })), undefined)
  assert.equal(bearer(token({ expires: now + 60 })), undefined)
  const good = token(fresh())
  assert.equal(bearer(good.slice(0, -10)), undefined)
  for (const text of ['', '.', 'x', 'one', '////', 'A'.repeat(100_000)]) assert.equal(bearer(text), undefined)
})

test('a token that another key signed is refused, and every token where none are expected', () => {
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  assert.equal(bearer(token(fresh(), other.privateKey)), undefined)
  assert.equal(bearer(token(fresh()), authFromEnv({ AUTH_KEY: 'one' })), undefined)
})
