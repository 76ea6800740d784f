// Structured logs of our daemons: JSON lines on stdout or a file, fixed event names as messages, secrets redacted
// by path. Called by every main.ts; children carry app, job and request ids.
import { destination, type Logger as PinoLogger, pino } from 'pino'
import { openLogFile } from './file.ts'

export type Logger = PinoLogger

const redactedPaths = [
  'env',
  '*.env',
  'password',
  '*.password',
  'key',
  '*.key',
  'auth_key',
  '*.auth_key',
  'authorization',
  'headers.authorization',
  'req.headers.authorization',
]

export type LogOptions = {
  readonly component: string
  /** File to append to, put aside when it is full; standard output when absent. */
  readonly file?: string | undefined
  readonly level?: string | undefined
}

/** A logger for one process. Level from the options, then LOG_LEVEL, then `info` (`debug` when DEBUG is set). */
export function createLogger(options: LogOptions): Logger {
  const level = options.level ?? process.env['LOG_LEVEL'] ?? (process.env['DEBUG'] ? 'debug' : 'info')
  return pino(
    {
      level,
      base: { component: options.component },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      redact: { paths: redactedPaths, censor: '[redacted]' },
      formatters: { level: label => ({ level: label }) },
    },
    options.file ? openLogFile(options.file) : destination({ dest: 1, sync: true }),
  )
}

/** A logger that writes nothing, for tests and for library use without a daemon. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' })
}
