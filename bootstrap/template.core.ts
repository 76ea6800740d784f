// The templates of the bootstrap manifest (contract host.md 7.2): the part of Go's template language that manifests
// use, and nothing more. Pure; an expression outside that part is an error that names it.

export type TemplateContext = {
  readonly env: Readonly<Record<string, string | undefined>>
  /** Data of finished steps, by step id. */
  readonly stepData: Readonly<Record<string, unknown>>
  readonly singleton: boolean
  readonly sortedHostIps: readonly string[]
  readonly clusterUrl: string
  readonly minHosts: number
  readonly md5: (text: string) => string
}

export class TemplateError extends Error {
  readonly expression: string
  constructor(expression: string, reason: string) {
    super(`template {{ ${expression} }}: ${reason}`)
    this.name = 'TemplateError'
    this.expression = expression
  }
}

function member(value: unknown, name: string): unknown {
  if (value === null || typeof value !== 'object') return undefined
  const record = value as Readonly<Record<string, unknown>>
  // Go spells fields in capitals (.CACert); ours are lower case with underscores (ca_cert).
  const wanted = name.toLowerCase()
  const key = Object.keys(record).find(k => k.toLowerCase().replaceAll('_', '') === wanted)
  return key === undefined ? undefined : record[key]
}

function text(value: unknown): string {
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value)
}

const getenvPattern = /^getenv\s+"([^"]*)"$/
const md5Pattern = /^md5sum\s+"([^"]*)"$/
const stepPattern = /^\(?index\s+\.StepData\s+"([^"]+)"\)?((?:\.\w+)*)$/

function stepValue(expression: string, id: string, path: string, context: TemplateContext): string {
  if (!(id in context.stepData)) throw new TemplateError(expression, `no step "${id}" has run before`)
  let value: unknown = context.stepData[id]
  for (const name of path.split('.').filter(Boolean)) value = member(value, name)
  if (value === undefined) throw new TemplateError(expression, `step "${id}" has no ${path}`)
  return text(value)
}

function evaluate(
  expression: string,
  context: TemplateContext,
  variables: Readonly<Record<string, string>>,
): string {
  const env = getenvPattern.exec(expression)
  if (env) return context.env[env[1] ?? ''] ?? ''
  const md5 = md5Pattern.exec(expression)
  if (md5) return context.md5(md5[1] ?? '')
  const step = stepPattern.exec(expression)
  if (step) return stepValue(expression, step[1] ?? '', step[2] ?? '', context)
  const variable = variables[expression]
  if (variable !== undefined) return variable
  if (expression === '.Singleton') return String(context.singleton)
  if (expression === '.ClusterURL') return context.clusterUrl
  if (expression === '.MinHosts') return String(context.minHosts)
  throw new TemplateError(expression, 'not understood; see docs for what a manifest may use')
}

const rangePattern = /\{\{\s*range\s+(\$\w+)\s*:=\s*\.SortedHostIPs\s*\}\}([\s\S]*?)\{\{\s*end\s*\}\}/g
const expressionPattern = /\{\{\s*([\s\S]*?)\s*\}\}/g

/** Replaces every `{{ … }}` of a text; throws TemplateError for what it does not know. */
export function renderTemplate(source: string, context: TemplateContext): string {
  const plain = (part: string, variables: Readonly<Record<string, string>>) =>
    part.replaceAll(expressionPattern, (_whole, expression: string) =>
      evaluate(expression, context, variables),
    )
  const unrolled = source.replaceAll(rangePattern, (_whole, name: string, body: string) =>
    context.sortedHostIps.map(ip => plain(body, { [name]: ip })).join(''),
  )
  return plain(unrolled, {})
}

/** Renders the values of an environment and drops the names whose value comes out empty. */
export function renderEnv(
  env: Readonly<Record<string, string>>,
  context: TemplateContext,
): Record<string, string> {
  const rendered: Record<string, string> = {}
  for (const [name, value] of Object.entries(env)) {
    const result = renderTemplate(value, context)
    if (result !== '') rendered[name] = result
  }
  return rendered
}
