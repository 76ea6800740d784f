// How long a person waits with images built already: the installer's quickstart on a fresh test host, by step. See
// README.md.
import { table } from '../../pkg/table/table.ts'
import { bootQuickstart } from './cluster.ts'
import { stepSeconds } from './progress.core.ts'

/** Aim of issue 2, "What must be shown", item 1. */
const aimSeconds = 60

await using booted = await bootQuickstart('bench-quickstart')
const seconds = (ms: number) => (ms / 1000).toFixed(1)
const steps = stepSeconds(booted.progress, [
  ['install, start flynn-host', undefined, 'ok flynn-host'],
  ['bootstrap', 'ok flynn-host', '... command line'],
  ['set up the CLI', '... command line', 'ok command line'],
  ['guestbook: app and database', '... guestbook', 'guestbook: deploying'],
  ['guestbook: deploy and scale', 'guestbook: deploying', 'ok guestbook'],
  ['first page', '... first page', 'ok first page'],
])
process.stdout.write(
  table([
    ['step', 'seconds'],
    ['look at the images, build what changed', seconds(booted.imagesMs)],
    ...steps.map(({ step, tookSeconds }) => [step, tookSeconds.toFixed(1)]),
    ['from start to served page', seconds(booted.totalMs)],
  ]),
)
const met = booted.totalMs < aimSeconds * 1000
process.stdout.write(`\naim: under ${aimSeconds} s with images built: ${met ? 'met' : 'MISSED'}\n`)
if (!met) process.exitCode = 1
