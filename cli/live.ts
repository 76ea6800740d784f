// Work under way as people watch it, on standard error: on a terminal a block of lines that change in place, in a pipe
// one line for each change. Used by deployments, scaling and `flynn deploy`.
export type Live = {
  /** Shows or changes the line of `key`. A line given as a function is drawn anew as time goes on. */
  set(key: string, line: string | (() => string)): void
  /** Text that stays, above the lines that change. Ends with a newline. */
  say(text: string): void
  /** Ends the drawing; what is shown stays. Safe to call twice. */
  close(): void
}

export type LiveOptions = {
  readonly terminal: boolean
  readonly columns: () => number
  readonly rows: () => number
  readonly write: (text: string) => void
}

const redrawMs = 250
const hideCursor = '\x1b[?25l'
const showCursor = '\x1b[?25h'

const textOf = (line: string | (() => string)) => (typeof line === 'string' ? line : line())

function pipedLive(write: LiveOptions['write']): Live {
  return {
    set: (_key, line) => write(`${textOf(line)}\n`),
    say: write,
    close: () => undefined,
  }
}

function terminalLive({ columns, rows, write }: LiveOptions): Live {
  const lines = new Map<string, string | (() => string)>()
  let drawn = 0
  let timer: NodeJS.Timeout | undefined
  const up = () => (drawn > 0 ? `\x1b[${drawn}A` : '')
  const draw = (before = '') => {
    // Neither a line that wraps nor one that has left the screen could be changed any more.
    const fitting = [...lines.values()].slice(-Math.max(1, rows() - 1))
    const block = fitting.map(line => `\r\x1b[K${textOf(line).slice(0, columns() - 1)}\n`)
    write(`${up()}${before === '' ? '' : `\r\x1b[J${before}`}${block.join('')}`)
    drawn = block.length
  }
  return {
    set(key, line) {
      lines.set(key, line)
      if (timer === undefined) {
        write(hideCursor)
        timer = setInterval(draw, redrawMs)
      }
      draw()
    },
    say: text => draw(text),
    close() {
      if (timer === undefined) return
      clearInterval(timer)
      timer = undefined
      draw()
      write(showCursor)
      lines.clear()
      drawn = 0
    },
  }
}

export function live(options: LiveOptions): Live {
  return options.terminal ? terminalLive(options) : pipedLive(options.write)
}

/** On standard error of this process. */
export function stderrLive(): Live {
  const shown = live({
    terminal: process.stderr.isTTY === true && process.env['TERM'] !== 'dumb',
    columns: () => process.stderr.columns || 80,
    rows: () => process.stderr.rows || 24,
    write: text => process.stderr.write(text),
  })
  // However the program ends, the cursor comes back.
  process.once('exit', () => shown.close())
  return shown
}

/** `1.2s`, for people. */
export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)}s`
}
