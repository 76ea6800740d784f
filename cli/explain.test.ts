import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Job, JobExplanation } from '../controller/types.ts'
import { explain, explanationText } from './commands/explain.ts'
import type { CommandContext } from './context.ts'

const uuid = '7fea2d1c-9c53-4f5a-9f0f-1e5a3c1f1b9f'
const waiting: JobExplanation = {
  uuid,
  app: 'a',
  release: 'r',
  type: 'web',
  state: 'pending',
  summary: 'it waits: no host fits: 1 with too little memory',
  notes: ['its release shall run 3 web; 2 of them run'],
  hosts: [
    {
      host: 'host0',
      fits: false,
      obstacle: 'memory',
      reason: 'has too little memory: 2GB asked for, 1GB of 4GB left',
    },
    { host: 'host1', fits: true, obstacle: 'busy', reason: 'is starting 4 other jobs' },
  ],
  requests: { memory: 2 * 1024 ** 3, cpu: 10 },
  live: true,
}

test('an explanation is a sentence, notes, and a line for each host', () => {
  assert.equal(
    explanationText(waiting),
    `${uuid} (web, pending)
it waits: no host fits: 1 with too little memory
its release shall run 3 web; 2 of them run
it asks for 2GB of memory and 0.01 cores
hosts:
  - host0 has too little memory: 2GB asked for, 1GB of 4GB left
  + host1 is starting 4 other jobs
`,
  )
})

/** A cluster with these jobs; what is printed goes to the list. */
function contextOf(jobs: readonly Job[], printed: string[]): CommandContext {
  const client = {
    jobs: async () => jobs,
    explainJob: async (_app: string, id: string) => ({ ...waiting, id }),
  }
  return {
    client: async () => client,
    appName: async () => 'hello',
    print: (_args: unknown, _value: unknown, text: string) => printed.push(text),
  } as unknown as CommandContext
}

const other = '11111111-2222-4333-8444-555555555555'
const jobs: readonly Job[] = [
  { uuid, id: `host0-${uuid}`, type: 'web', state: 'up' },
  { uuid: other, type: 'worker', state: 'pending' },
]

test('the beginning of an id or uuid is enough', async () => {
  for (const [word, id] of [
    ['7fea', `host0-${uuid}`],
    ['host0-7', `host0-${uuid}`],
    ['1111', other],
    [other, other],
  ] as const) {
    const printed: string[] = []
    assert.equal(await explain.run([word], contextOf(jobs, printed)), 0)
    assert.ok(printed[0]?.startsWith(`${id} `), `${word}: ${printed[0]}`)
  }
})

test('an unknown job is told with those that were meant, or with how to see them', async () => {
  const remedies = [
    [`${uuid.slice(0, -2)}00`, `did you mean host0-${uuid}?`],
    ['worker', `did you mean ${other}?`],
    ['nonsense', 'flynn -a hello ps --all lists its jobs'],
  ] as const
  for (const [word, remedy] of remedies)
    await assert.rejects(explain.run([word], contextOf(jobs, [])), (e: Error & { remedy?: string }) => {
      assert.equal(e.message, `hello has no job ${word}`)
      assert.equal(e.remedy, remedy)
      return true
    })
})
