// Asks a yes-or-no question. Without a terminal nobody is there to ask: an answer that a script pipes in is taken
// when it comes at once, anything else is an error that names --yes, never an endless wait (contract cli.md 14.1).
import { createInterface } from 'node:readline'
import { errors } from './errors.ts'

/** How long an answer may take to come down a pipe. */
export const pipedAnswerTimeoutMs = 2_000

/** A code has to be fetched first, by whoever or whatever answers. */
export const pipedLineTimeoutMs = 30_000

/** One line that is typed or piped in; rejects ANSWER_WANTED when there is none. */
export async function ask(question: string): Promise<string> {
  const lines = createInterface({ input: process.stdin })
  const silence = process.stdin.isTTY ? undefined : setTimeout(() => lines.close(), pipedLineTimeoutMs)
  try {
    process.stderr.write(question)
    for await (const line of lines) {
      if (line.trim() === '') continue
      // A terminal shows what is typed with its end of line; a pipe does not.
      if (!process.stdin.isTTY) process.stderr.write('\n')
      return line.trim()
    }
    process.stderr.write('\n')
    throw errors.ANSWER_WANTED({ question: question.replace(/:\s*$/, '') })
  } finally {
    clearTimeout(silence)
    lines.close()
    process.stdin.pause()
  }
}

/** Resolves with the answer; rejects PROMPT_NO_ANSWER when there is none. `flag` is what skips the question. */
export async function confirm(question: string, flag = '--yes'): Promise<boolean> {
  const lines = createInterface({ input: process.stdin })
  const silence = process.stdin.isTTY ? undefined : setTimeout(() => lines.close(), pipedAnswerTimeoutMs)
  try {
    process.stdout.write(`${question} (yes/no): `)
    for await (const line of lines) {
      const word = line.trim().split(/\s+/)[0] ?? ''
      if (word === 'y' || word === 'yes') return true
      if (word === 'n' || word === 'no') return false
      process.stdout.write("Please type 'yes' or 'no': ")
    }
    process.stdout.write('\n')
    throw errors.PROMPT_NO_ANSWER({ flag })
  } finally {
    clearTimeout(silence)
    lines.close()
    process.stdin.destroy()
  }
}
