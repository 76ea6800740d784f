// Runs the steps of a manifest in order and remembers what each made, so that a second run continues where the first
// one stopped. A step that still has running jobs to vouch for it is checked before it is skipped.
import type { TSchema } from 'typebox'
import { Value } from 'typebox/value'
import { describeError } from '../pkg/errors/errors.ts'
import type { BootstrapContext } from './context.ts'
import { errors } from './errors.ts'
import type { Step } from './manifest.ts'
import type { Reporter } from './progress.ts'

export type ActionResult = {
  /** Kept, and reachable from the templates of later steps. */
  readonly data?: unknown
  /** For the terminal, after the step's name. Never a secret. */
  readonly text?: string
}

export type Action = {
  readonly schema: TSchema
  run(step: Step, context: BootstrapContext): Promise<ActionResult>
  /** Whether what an earlier run made is still there; absent: it always is. */
  stillDone?(data: unknown, step: Step, context: BootstrapContext): Promise<boolean>
  /** True for steps that only look: they run every time. */
  readonly always?: boolean
}

export type EngineOptions = {
  readonly steps: readonly Step[]
  readonly actions: Readonly<Record<string, Action>>
  readonly context: BootstrapContext
  readonly reporter: Reporter
  /** Ids of the only steps to run; all when absent. */
  readonly only?: readonly string[] | undefined
}

/** Every step's action is known and its fields have the right types, before anything is started. */
export function checkSteps(steps: readonly Step[], actions: Readonly<Record<string, Action>>): void {
  for (const step of steps) {
    const action = actions[step.action]
    if (!action) throw errors.UNKNOWN_ACTION({ action: step.action, known: Object.keys(actions).join(', ') })
    const [first] = Value.Errors(action.schema, step)
    if (first) {
      const field = first.instancePath.split('/').filter(Boolean).join('.') || 'the step'
      throw errors.MANIFEST_INVALID({ step: step.id, reason: `${field} ${first.message}` })
    }
  }
}

async function runStep(step: Step, action: Action, options: EngineOptions): Promise<void> {
  const { context, reporter } = options
  const before = context.stepData[step.id]
  if (before !== undefined && !action.always && ((await action.stillDone?.(before, step, context)) ?? true)) {
    reporter.skipped(step)
    return
  }
  reporter.start(step)
  context.info = message => reporter.info(step, message)
  const result = await action.run(step, context)
  context.stepData[step.id] = result.data ?? {}
  await context.options.save(context.stepData)
  reporter.done(step, result.data, result.text)
}

/** Throws the first step's error, after reporting it. */
export async function runSteps(options: EngineOptions): Promise<void> {
  checkSteps(options.steps, options.actions)
  for (const id of options.only ?? []) {
    if (!options.steps.some(step => step.id === id)) throw errors.UNKNOWN_STEP({ step: id })
  }
  for (const step of options.steps) {
    if (options.only && !options.only.includes(step.id)) continue
    const action = options.actions[step.action]
    if (!action) continue
    try {
      await runStep(step, action, options)
    } catch (e) {
      options.reporter.error(step, describeError(e))
      throw e
    }
  }
}
