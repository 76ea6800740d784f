// What a person, a pipe or a machine sees of a bootstrap: lines with elapsed time, or with --json the event stream
// of contract host.md 7.1, without the secrets that steps make (contract host.md 10, item 46).
import type { Progress } from '../pkg/progress/progress.ts'

export type StepEvent = {
  readonly id: string
  readonly action: string
  readonly state: 'start' | 'done' | 'error' | 'info' | 'skipped'
  readonly data?: unknown
  readonly error?: string
  readonly ts: string
}

export type StepLine = { readonly id: string; readonly action: string }

export type Reporter = {
  start(step: StepLine): void
  info(step: StepLine, message: string): void
  done(step: StepLine, data: unknown, text: string | undefined): void
  skipped(step: StepLine): void
  error(step: StepLine, message: string): void
}

/** Actions whose data hold keys, passwords or environments. */
const secretActions = new Set(['gen-random', 'gen-tls-cert', 'run-app', 'add-app', 'deploy-app'])

export function jsonReporter(write: (line: string) => void, now: () => Date): Reporter {
  const emit = (step: StepLine, rest: Omit<StepEvent, 'id' | 'action' | 'ts'>) =>
    write(`${JSON.stringify({ id: step.id, action: step.action, ...rest, ts: now().toISOString() })}\n`)
  return {
    start: step => emit(step, { state: 'start' }),
    info: (step, data) => emit(step, { state: 'info', data }),
    done: (step, data) =>
      emit(step, {
        state: 'done',
        ...(secretActions.has(step.action) || data === undefined ? {} : { data }),
      }),
    skipped: step => emit(step, { state: 'skipped' }),
    error: (step, error) => emit(step, { state: 'error', error }),
  }
}

export function textReporter(progress: Progress): Reporter {
  const label = (step: StepLine) => (step.action === step.id ? step.id : `${step.action} ${step.id}`)
  return {
    start: step => progress.start(label(step)),
    info: (step, message) => progress.info(label(step), message),
    done: (step, _data, text) => progress.done(label(step), text),
    skipped: step => progress.skipped(label(step)),
    error: (step, message) => progress.error(label(step), message),
  }
}
