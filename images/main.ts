// The image builder's command line: flags, progress lines with elapsed time, exit code.
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { describeError } from '../pkg/errors/errors.ts'
import { table } from '../pkg/table/table.ts'
import { type BuildReport, buildImages } from './build.ts'
import { hostBundles, images, layers } from './manifest.ts'

const usage = `Usage: node images/main.ts [options]

Builds the layers and images of all components, as far as they are not up to date.

Options:
  --only=NAME,...   these images or layers (and what lies below), or "host"; all by default
  --out=DIR         where to (default: build/images; what a host runs itself goes to host/ beside it)
  --list            print the table of images and layers
  --strict          fail where a component's files are missing, instead of leaving it out
  --refresh         build layers of Debian packages anew
  --json            print the result as JSON; progress goes to standard error
  -h, --help        this text
`

function listing(json: boolean): string {
  if (json) return `${JSON.stringify({ images, layers, hostBundles })}\n`
  const rows = images.map(image => [
    image.name,
    image.layers.join(' '),
    Object.keys(image.entrypoints ?? {}).join(' ') || '-',
  ])
  return table([['IMAGE', 'LAYERS', 'PROCESSES'], ...rows])
}

function summary(report: BuildReport): string {
  const { built, kept, images: made, ms } = report
  const bytes = built.reduce((sum, layer) => sum + layer.length, 0)
  const work =
    built.length === 0 ? 'nothing to build' : `${built.length} layers built (${(bytes / 1e6).toFixed(0)} MB)`
  return `${work}, ${kept.length} kept, ${made.length} images, ${(ms / 1000).toFixed(1)} s\n`
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      out: { type: 'string' },
      list: { type: 'boolean' },
      strict: { type: 'boolean' },
      refresh: { type: 'boolean' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  const json = values.json ?? false
  if (values.help || values.list) {
    process.stdout.write(values.help ? usage : listing(json))
    return
  }
  const began = performance.now()
  const progress = json ? process.stderr : process.stdout
  const repository = join(import.meta.dirname, '..')
  const report = await buildImages({
    repository,
    out: resolve(values.out ?? join(repository, 'build/images')),
    only: (values.only ?? '').split(',').filter(name => name !== ''),
    strict: values.strict ?? false,
    refresh: values.refresh ?? false,
    say: line => progress.write(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)}s  ${line}\n`),
  })
  process.stdout.write(json ? `${JSON.stringify(report)}\n` : summary(report))
}

main().catch((e: unknown) => {
  process.stderr.write(`images: ${describeError(e)}\n`)
  process.exitCode = 1
})
