// `flynn login` and clusters that are used with tokens (contract cli.md 12), with an issuer of tokens on this machine and
// the real controller behind TLS, which checks what the issuer signed.
import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { parseConfig } from '../../cli/config.ts'
import { startController, type TestController } from '../fixtures/controller.ts'
import { clientId, startIssuer, type TestIssuer, user } from '../fixtures/issuer.ts'
import { type Outcome, type RunOptions, type Session, startSession } from './cli-session.ts'

let issuer: TestIssuer
let controller: TestController
let session: Session
let env: Readonly<Record<string, string>>

before(async () => {
  issuer = await startIssuer()
  controller = await startController({ env: { ACCESS_TOKEN_KEY: issuer.tokenKey } })
  issuer.target = controller.url
  session = await startSession()
  const authority = join(session.home, 'authority.pem')
  await writeFile(authority, issuer.authority)
  env = { NODE_EXTRA_CA_CERTS: authority }
})
after(async () => {
  await session?.remove()
  await controller?.stop()
  await issuer?.close()
})

const flynn = (args: readonly string[], options: RunOptions = {}) =>
  session.flynn(args, { ...options, env: { ...env, ...options.env } })

/** Logs in as a person does who copies the code: visits the address that is printed, and types what comes of it. */
async function logIn(args: readonly string[], choice?: string): Promise<Outcome> {
  let said = ''
  let visited = false
  let chosen = choice === undefined
  return await flynn(['login', '--oob-code', ...args, issuer.url], {
    input: 'open',
    onOutput(text, _kill, type) {
      said += text
      if (!chosen && said.includes('part of the name): ')) {
        chosen = true
        type(`${choice}\n`)
      }
      const [address] = /https:\/\/localhost:\d+\/authorize\S+(?=\n)/.exec(said) ?? []
      if (visited || address === undefined) return
      visited = true
      type(`${issuer.visit(address).code}\n`)
    },
  })
}

const cluster = async (name: string) =>
  parseConfig(await readFile(session.configPath, 'utf8'), 'f').clusters.find(c => c.Name === name)

test('a cluster is added by its address after a login, without a key, and git is told of it', async () => {
  const { code, stdout, stderr } = await logIn(['-c', issuer.controllerUrl, '-n', 'mine'])
  assert.deepEqual([code, stdout], [0, ''], stderr)
  assert.match(stderr, /Cluster "mine" added and set as default\.\n$/)
  const entry = await cluster('mine')
  assert.deepEqual(
    [entry?.OAuthURL, entry?.Key, entry?.ControllerURL],
    [issuer.url, undefined, issuer.controllerUrl],
  )
  const helper = await readFile(join(session.home, '.gitconfig'), 'utf8')
  assert.match(helper, /git-credentials/)
  assert.ok(!helper.includes('sslCAInfo'))
})

test('tokens are kept where only their owner reads them', async () => {
  const dir = join(session.home, '.flynn', 'tokens', new URL(issuer.url).host)
  assert.deepEqual(await readdir(dir), [`${clientId}.json`])
  assert.equal((await stat(join(dir, `${clientId}.json`))).mode & 0o777, 0o600)
})

test('calls carry the token, and the audit log knows the person', async () => {
  const made = await flynn(['create', 'by-token'])
  assert.deepEqual([made.code, made.stderr], [0, 'Created by-token\n'])
  const audit = await flynn(['cluster', 'audit-log', '-n', '1'])
  assert.match(audit.stdout, new RegExp(user))
  assert.equal(issuer.renewals, 0, 'a token that is good is used again')
})

test('a token that ends soon is renewed without anybody being asked', async () => {
  issuer.validity = 1
  assert.equal((await logIn([])).code, 0)
  assert.match((await logIn([])).stderr, /Logged in at localhost:\d+\.\n$/)
  const before = issuer.renewals
  assert.equal((await logIn(['-c', issuer.controllerUrl, '-n', 'mine', '-f'])).code, 0)
  assert.equal((await flynn(['apps'])).code, 0)
  assert.ok(issuer.renewals > before)
})

test('git is given the token', async () => {
  const entry = await cluster('mine')
  const host = new URL(entry?.GitURL ?? '').host
  const { stdout } = await flynn(['git-credentials', 'get'], { input: `protocol=https\nhost=${host}\n\n` })
  assert.match(stdout, /^protocol=https\nusername=Bearer\nhost=\S+\npassword=flynn\.\S+\n$/)
})

test('-p lets one choose among the clusters of the account, by number or name', async () => {
  const { code, stderr } = await logIn(['-p', '-n', 'chosen', '-f'], 'prod')
  assert.equal(code, 0, stderr)
  assert.match(stderr, /^1\. production \(https:\/\/controller\.test\.localhost:\d+\)$/m)
  assert.equal((await cluster('chosen'))?.ControllerURL, issuer.controllerUrl)
})

test('what cannot be is told with what to type', async () => {
  const refusals = [
    [['login', 'nonsense'], /"nonsense" is no address of an issuer \(such as https/],
    [['login', '-c', 'https://x.test', issuer.url], /no address of a controller/],
    [['login', 'https://localhost:1/x?client_id=a', '-p'], /issuer localhost:1 could not be used/],
    [['login', `${issuer.url}2`], /no cluster is named \(add -p/],
  ] as const
  for (const [args, text] of refusals) {
    const { code, stderr } = await flynn(args, { input: 'open' })
    assert.equal(code, 1)
    assert.match(stderr, text)
  }
  const silent = await flynn(['login', '--oob-code', issuer.url])
  assert.match(silent.stderr, /nothing was answered to "Code"/)
  const wrong = await flynn(['login', '--oob-code', issuer.url], { input: 'wrong-code\n' })
  assert.match(wrong.stderr, /invalid_grant.*flynn login/)
})

test('a login that is over is told so by every command', async () => {
  issuer.validity = 1
  assert.equal((await logIn(['-c', issuer.controllerUrl, '-n', 'mine', '-f'])).code, 0)
  issuer.revoked = true
  const { code, stderr } = await flynn(['apps'])
  issuer.revoked = false
  assert.equal(code, 1)
  assert.match(stderr, /^the login at localhost:\d+ is over: invalid_grant.*\(log in again: flynn login\)/)
})

test('with a browser the code comes back by itself', async () => {
  // The browser of this test only notes that it was opened; the visit comes from here.
  const dir = join(session.home, 'bin')
  const file = join(session.home, 'visit')
  await writeFile(file, '')
  const script = `#!/bin/sh\necho "$1" > ${file}\n`
  await mkdir(dir)
  await writeFile(join(dir, 'xdg-open'), script, { mode: 0o755 })
  let visited = false
  const { code, stderr } = await flynn(['login', issuer.url], {
    env: { PATH: `${dir}:${process.env['PATH']}` },
    onOutput(text) {
      const [address] = /https:\/\/localhost:\d+\/authorize\S+(?=\n)/.exec(text) ?? []
      if (visited || address === undefined) return
      visited = true
      const { code: granted, redirect, state } = issuer.visit(address)
      void fetch(`${redirect}?code=${granted}&state=${encodeURIComponent(state)}`).then(r => r.text())
    },
  })
  assert.equal(code, 0, stderr)
  assert.match(await readFile(file, 'utf8'), /^https:\/\/localhost:\d+\/authorize/)
})
