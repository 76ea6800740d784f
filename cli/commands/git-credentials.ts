// `flynn git-credentials`, which git calls to learn the key of a cluster (contract cli.md 11). Whatever goes wrong, it
// says nothing: git then asks somebody else.
import { createInterface } from 'node:readline'
import type { Command } from '../command.ts'
import { parse } from '../usage.ts'

export const gitCredentials: Command = {
  usage: `usage: flynn git-credentials <operation>

Answer git's questions for user name and password.

Example:
  $ git config --global credential.https://git.example.com.helper "flynn git-credentials"
`,
  async run(argv, context) {
    const [operation] = parse(argv, { min: 1, max: 1, json: false }).rest
    if (operation !== 'get') return 0
    const given: Record<string, string> = {}
    for await (const line of createInterface({ input: process.stdin })) {
      if (line === '') break
      const at = line.indexOf('=')
      given[line.slice(0, at)] = line.slice(at + 1)
    }
    const clusters = await context.config().then(
      config => config.clusters,
      () => [],
    )
    const url = `https://${given['host'] ?? ''}`
    const found = given['protocol'] === 'https' ? clusters.find(c => c.GitURL === url) : undefined
    const answer = (username: string, password: string) =>
      context.out(`protocol=https\nusername=${username}\nhost=${given['host']}\npassword=${password}\n`)
    if (found?.OAuthURL) {
      const { accessToken } = await import('../token-store.ts')
      const token = await accessToken(found.OAuthURL, found.ControllerURL).catch(() => undefined)
      if (token) answer(token.token_type, token.access_token)
    } else if (found?.Key) answer('user', found.Key)
    return 0
  },
}
