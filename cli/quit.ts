// What an interrupt does: the program ends with code 0, as the original's does (contract cli.md 2), unless an attached
// job has taken the signals over.
export type QuitSignal = 'SIGINT' | 'SIGTERM'
type Handler = (signal: QuitSignal) => void

const handlers: Handler[] = [() => process.exit(0)]

/** Called once by main.ts. */
export function listenForQuit(): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => handlers.at(-1)?.(signal))
}

/** Until the returned function is called, signals go to `handler`. */
export function takeQuit(handler: Handler): () => void {
  handlers.push(handler)
  return () => {
    const at = handlers.lastIndexOf(handler)
    if (at > 0) handlers.splice(at, 1)
  }
}

/** While a change goes on in the cluster, an interrupt says so before it ends the program. */
export function sayOnQuit(text: string): () => void {
  return takeQuit(() => {
    process.stderr.write(`\n${text}\n`)
    process.exit(0)
  })
}
