// Finds test files and runs them with node's own test runner, each file in a process of its own. Used by unit.ts and
// integration.ts; the exit code is honest: no test found, a failed test and a file that breaks off all count as failed.
import { readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { pathToFileURL } from 'node:url'

export const root = join(import.meta.dirname, '..')
/** Packages of their own, and what is made. */
const skippedFolders = ['node_modules', 'build', 'examples']

/** Paths from the root, sorted, of the test files below the folder that are in none of `except`. */
export function findTests(folder: string, except: readonly string[] = []): string[] {
  const found: string[] = []
  const walk = (path: string) => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      const inner = join(path, entry.name)
      const skipped = entry.name.startsWith('.') || skippedFolders.includes(entry.name)
      if (entry.isDirectory() && !skipped && !except.includes(relative(root, inner))) walk(inner)
      if (entry.isFile() && entry.name.endsWith('.test.ts')) found.push(relative(root, inner))
    }
  }
  walk(join(root, folder))
  return found.sort()
}

export type RunTestsOptions = {
  readonly files: readonly string[]
  /** Files at once. */
  readonly concurrency: number
  readonly fileTimeoutMs: number
  /** Prints how long each file took when it ends, so that a run cut short shows how far it came. */
  readonly times?: boolean
}

function timeLine(file: string, durationMs: number): string {
  return `-- ${relative(root, file)}: ${(durationMs / 1000).toFixed(1)} s\n`
}

export type Outcome = {
  /** Tests ran and none failed. */
  readonly good: boolean
  /** A line for each test that failed: its file, its name, the reason. */
  readonly failures: readonly string[]
}

/** The reason is what the test threw, which the runner wraps in an error of its own. */
function failureLine(file: string | undefined, name: string, error: Error): string {
  const reason = error.cause instanceof Error ? error.cause.message : error.message
  return `${file === undefined ? '' : `${relative(root, file)}: `}${name}: ${reason.split('\n', 1)[0]}\n`
}

/** Reports to stdout. */
export async function runTests(options: RunTestsOptions): Promise<Outcome> {
  if (options.files.length === 0) return { good: false, failures: ['no test files found\n'] }
  const stream = run({
    files: options.files.map(f => join(root, f)),
    concurrency: options.concurrency,
    timeout: options.fileTimeoutMs,
    cwd: root,
    // A test that failed halfway leaves streams and timers open; the file ends all the same, after its `after` hooks.
    execArgv: ['--test-force-exit', `--import=${pathToFileURL(join(root, 'test/whole-report.ts'))}`],
  })
  let good = false
  const failures: string[] = []
  stream.on('test:fail', ({ file, name, details }) => failures.push(failureLine(file, name, details.error)))
  stream.on('test:summary', summary => {
    // The summary without a file is that of the whole run.
    if (summary.file === undefined) good = summary.success && summary.counts.tests > 0
    else if (options.times) process.stdout.write(timeLine(summary.file, summary.duration_ms))
  })
  const report = stream.compose(spec)
  report.pipe(process.stdout, { end: false })
  await new Promise<void>((resolve, reject) => {
    report.once('end', resolve)
    report.once('error', reject)
  })
  return { good, failures }
}
