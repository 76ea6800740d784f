// The end of a program that must not wait for its open connections.

/**
 * Ends the process once everything that was printed has left it. `process.exit` alone cuts off what a pipe has not taken
 * yet, which is all but the first 64 KB when the reader is slow.
 */
export async function exitWhenPrinted(code: number): Promise<never> {
  const printed = (stream: NodeJS.WriteStream) => new Promise(resolve => stream.write('', resolve))
  await Promise.all([process.stdout, process.stderr].map(printed))
  process.exit(code)
}
