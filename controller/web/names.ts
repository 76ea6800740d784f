// Names for apps that were given none: three words, drawn in an order that the cluster's seed shuffles, so that no name
// comes twice before all were used (contract controller.md 2.3).
import { createHash } from 'node:crypto'
import { sql } from 'kysely'
import type { Db } from '../schema/write.ts'

const first =
  `able airy amber ample azure bold brave brief bright brisk broad calm civil clean clear cool cosy crisp
curly deep eager early easy fair fine firm fleet fond frank fresh gentle glad golden grand green happy hardy honest
humble jolly keen kind lively loyal lucky mellow merry mild neat noble patient plain polite proud quick quiet ready
silver simple steady sunny tidy warm wise`.split(/\s+/)
const second =
  `alder amber arctic autumn bamboo birch bronze cedar clover cobalt copper coral cotton crystal desert
dune ember fern forest frost garden garnet granite harbour hazel heather indigo island ivory jade lagoon lake lilac
linen maple marble meadow mint misty moor morning mossy north ocean olive opal orchard paper pearl pine prairie
quartz rain river ruby saffron silk slate snow spring stone summer tide velvet`.split(/\s+/)
const third =
  `badger beaver bison camel canary cheetah comet condor crane cricket dingo dolphin eagle falcon ferret
finch fox gazelle gecko gibbon gull hare hawk heron hornet ibex jackal jaguar kestrel kiwi koala lark lemur lion
lizard lynx magpie marmot martin mole moose newt ocelot orca osprey otter owl panda parrot pelican plover puffin
rabbit raven robin salmon seal sparrow stork swan tiger toucan walrus wren`.split(/\s+/)

export const nameCount = first.length * second.length * third.length

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b)
}

/** The n-th name of a seed; a permutation of all names for n below `nameCount`. */
export function nameOf(n: number, seed: string): string {
  const digest = createHash('sha256').update(seed).digest()
  const offset = digest.readUInt32BE(0) % nameCount
  let step = (digest.readUInt32BE(4) % nameCount) + 1
  while (gcd(step, nameCount) !== 1) step++
  const at = Number((BigInt(n) * BigInt(step) + BigInt(offset)) % BigInt(nameCount))
  const words = [
    first[at % first.length],
    second[Math.floor(at / first.length) % second.length],
    third[Math.floor(at / (first.length * second.length))],
  ]
  return words.join('-')
}

export async function generateName(db: Db, seed: string): Promise<string> {
  const { rows } = await sql<{ n: number }>`SELECT nextval('name_ids') AS n`.execute(db)
  return nameOf(rows[0]?.n ?? 0, seed)
}
