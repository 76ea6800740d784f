// Asks several URLs for the same thing in turn, over kept-alive connections, and prints the milliseconds of each answer as
// JSON. Runs inside a test host, because only there jobs have their addresses. Arguments: COUNT HOST-HEADER URL...
import { exchange } from '../../pkg/http/request.ts'

/** The first requests open connections and warm everything on the way. */
const warmUps = 50
const answerTimeoutMs = 5_000

const [count = '', host = '', ...urls] = process.argv.slice(2)
const samples = urls.map((): number[] => [])

async function ask(url: string): Promise<number> {
  const began = performance.now()
  const res = await exchange(new URL(url), {
    headers: { host },
    signal: AbortSignal.timeout(answerTimeoutMs),
  })
  await res.body.dump()
  const tookMs = performance.now() - began
  if (res.statusCode !== 200) throw new Error(`${url} answers ${res.statusCode}`)
  return tookMs
}

for (let i = -warmUps; i < Number(count); i++)
  for (const [n, url] of urls.entries()) {
    const tookMs = await ask(url)
    if (i >= 0) samples[n]?.push(tookMs)
  }
process.stdout.write(JSON.stringify(samples))
process.exit()
