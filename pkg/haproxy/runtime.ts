// HAProxy's runtime API: one persistent connection in prompt mode, one command at a time, answers in order. A lost
// connection is reported to the owner, who decides what HAProxy knows now; nothing is repeated by itself.
// Facts: evidence/router.md 3 and 6 (one prompt per command, payloads bounded by tune.bufsize).
import { connect, type Socket } from 'node:net'

export const connectTimeoutMs = 2_000
export const commandTimeoutMs = 5_000
/** tune.bufsize of our configuration: a longer command with its payload is refused by HAProxy. */
export const payloadBytesMax = 32_768 - 1024

type Waiting = { readonly resolve: (text: string) => void; readonly reject: (e: Error) => void }

export class HaproxyRuntime {
  readonly #socket: Socket
  readonly #waiting: Waiting[] = []
  #text = ''
  #closed: Error | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.setEncoding('latin1')
    socket.on('data', chunk => this.#receive(String(chunk)))
    socket.on('error', e => this.#end(e))
    socket.on('close', () => this.#end(new Error('HAProxy closed the runtime connection')))
  }

  /** Connects and switches to prompt mode; `onClose` is called once when the connection ends. */
  static async open(path: string, onClose: (e: Error) => void): Promise<HaproxyRuntime> {
    const socket = connect(path)
    const timer = setTimeout(
      () => socket.destroy(new Error(`no connection within ${connectTimeoutMs} ms`)),
      connectTimeoutMs,
    )
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve)
        socket.once('error', reject)
      })
    } finally {
      clearTimeout(timer)
    }
    const runtime = new HaproxyRuntime(socket)
    socket.once('close', () => onClose(runtime.#closed ?? new Error('closed')))
    await runtime.#send('prompt\n')
    return runtime
  }

  /** Sends one command and returns its answer without white space at the ends. */
  command(text: string): Promise<string> {
    if (/[\n;]/.test(text)) throw new Error('one command a call')
    return this.#send(`${text}\n`)
  }

  /** `command` with a payload of lines, which must not hold an empty one. */
  async payload(text: string, body: string): Promise<string> {
    if (Buffer.byteLength(body) > payloadBytesMax) throw new Error(`payload over ${payloadBytesMax} bytes`)
    // Each line of a payload is prompted for.
    return (await this.#send(`${text} <<\n${body.trimEnd()}\n\n`)).replace(/^(\+ ?)+/, '')
  }

  close(): void {
    this.#socket.destroy()
  }

  #send(text: string): Promise<string> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(this.#closed)
      const timer = setTimeout(
        () =>
          this.#socket.destroy(
            new Error(`no answer to "${text.split('\n')[0]}" within ${commandTimeoutMs} ms`),
          ),
        commandTimeoutMs,
      )
      const settle =
        <T>(f: (value: T) => void) =>
        (value: T) => {
          clearTimeout(timer)
          f(value)
        }
      this.#waiting.push({ resolve: settle(resolve), reject: settle(reject) })
      this.#socket.write(text)
    })
  }

  #receive(chunk: string): void {
    this.#text += chunk
    for (;;) {
      const at = this.#text.startsWith('> ') ? 0 : this.#text.indexOf('\n> ')
      if (at < 0) return
      const answer = this.#text.slice(0, at)
      this.#text = this.#text.slice(at + (at === 0 && this.#text.startsWith('> ') ? 2 : 3))
      this.#waiting.shift()?.resolve(answer.trim())
    }
  }

  #end(e: Error): void {
    if (this.#closed) return
    this.#closed = e
    for (const waiting of this.#waiting.splice(0)) waiting.reject(e)
  }
}
