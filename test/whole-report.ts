// Preloaded into the process of every test file (runner.ts): what it writes to a pipe is written before the call returns.
// `--test-force-exit` ends the process when its tests have ended and not when its report has left, and a pipe whose reader
// is busy takes only part of it: the last tests of a file were missing, and the reason of one that failed.
type PipeHandle = { readonly setBlocking?: (blocking: boolean) => number }

const { _handle: handle } = process.stdout as typeof process.stdout & { readonly _handle?: PipeHandle }
handle?.setBlocking?.(true)
