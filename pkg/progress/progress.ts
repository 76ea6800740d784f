// Long work as people see it: on a terminal one line a step that counts its seconds, in a pipe one plain line when a
// step begins and one when it ends. Used by the installer, the bootstrap and the CLI.
export type Progress = {
  start(label: string): void
  /** A line about the step that is under way. */
  info(label: string, message: string): void
  done(label: string, text?: string): void
  skipped(label: string): void
  error(label: string, message: string): void
}

export type ProgressOptions = {
  readonly terminal: boolean
  readonly write: (text: string) => void
  readonly nowMs: () => number
  /** When the whole began; now when absent. */
  readonly begunMs?: number
}

const tickMs = 500

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)}s`.padStart(7)
}

export function textProgress(options: ProgressOptions): Progress {
  const begun = options.begunMs ?? options.nowMs()
  let timer: NodeJS.Timeout | undefined
  const total = () => seconds(options.nowMs() - begun)
  const line = (mark: string, label: string, rest: string) => {
    clearInterval(timer)
    options.write(`${options.terminal ? '\r\x1b[K' : ''}${total()}  ${mark} ${label}${rest}\n`)
  }
  return {
    start(label) {
      if (!options.terminal) return line('...', label, '')
      const stepBegan = options.nowMs()
      const show = () =>
        options.write(`\r\x1b[K${total()}  ... ${label}${seconds(options.nowMs() - stepBegan)}`)
      show()
      clearInterval(timer)
      timer = setInterval(show, tickMs)
    },
    info: (label, message) => line('   ', label, `: ${message}`),
    done: (label, text) => line('ok ', label, text === undefined ? '' : ` ${text}`),
    skipped: label => line('ok ', label, ' (done before)'),
    error: (label, message) => line('ERR', label, ` error: ${message}`),
  }
}

/** Progress on standard error of this process. */
export function stderrProgress(begunMs?: number): Progress {
  return textProgress({
    terminal: process.stderr.isTTY === true,
    write: text => process.stderr.write(text),
    nowMs: () => Date.now(),
    ...(begunMs === undefined ? {} : { begunMs }),
  })
}
