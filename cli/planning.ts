// `--plan`: what a command would change is printed; on a terminal it then asks whether to do it, elsewhere that is all.
import type { CommandContext } from './context.ts'
import { type Plan, renderPlan } from './plan.core.ts'
import { confirm } from './prompt.ts'

export type PlanArgs = { readonly json: boolean; readonly plan: boolean }

const isTerminal = () => process.stdin.isTTY === true && process.stdout.isTTY === true

/** Whether the change is to be made: yes without `--plan`; with it the plan is printed and the person on the terminal decides. */
export async function goesOn(
  context: CommandContext,
  args: PlanArgs,
  plan: Plan | (() => Promise<Plan>),
): Promise<boolean> {
  if (!args.plan) return true
  const made = typeof plan === 'function' ? await plan() : plan
  context.print(args, made, renderPlan(made))
  const nothing = made.changes.length === 0 && made.steps.length === 0
  return !args.json && !nothing && isTerminal() && (await confirm('Do this?'))
}
