// Counting gate of job starts (contract host.md 2.2): clients are refused when it is full, the daemon's own starts wait.

export type Gate = {
  /** Takes a slot if one is free. */
  tryEnter(): boolean
  enter(signal: AbortSignal): Promise<void>
  leave(): void
  readonly free: number
}

export function gate(slots: number): Gate {
  let free = slots
  const waiting: (() => void)[] = []
  return {
    tryEnter() {
      if (free === 0) return false
      free--
      return true
    },
    async enter(signal) {
      signal.throwIfAborted()
      if (free > 0) {
        free--
        return
      }
      await new Promise<void>((resolve, reject) => {
        const onAbort = () => {
          const at = waiting.indexOf(go)
          if (at >= 0) waiting.splice(at, 1)
          reject(signal.reason)
        }
        const go = () => {
          signal.removeEventListener('abort', onAbort)
          resolve()
        }
        signal.addEventListener('abort', onAbort, { once: true })
        waiting.push(go)
      })
    },
    leave() {
      const next = waiting.shift()
      if (next) next()
      else free++
    },
    get free() {
      return free
    },
  }
}
