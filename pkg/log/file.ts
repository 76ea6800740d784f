// The log file of a daemon that no init system keeps logs for: put aside when it is full, and never a reason to end.
import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs'

/** Of the file; the one before it is kept as `FILE.1`, so that twice as much is on the disk. */
export const logFileBytesMax = 32 * 1024 * 1024

export type LogFile = {
  /** One line with its newline. A line that the disk does not take is lost and counted; the next that it takes tells so. */
  write(line: string): void
}

/** Appends to the file. Throws when it cannot be opened. */
export function openLogFile(path: string, bytesMax = logFileBytesMax): LogFile {
  let fd = openSync(path, 'a')
  let bytes = fstatSync(fd).size
  let lost = 0
  const rotate = () => {
    renameSync(path, `${path}.1`)
    const next = openSync(path, 'a')
    closeSync(fd)
    fd = next
    bytes = 0
  }
  const append = (line: string) => {
    const written = writeSync(fd, line)
    bytes += written
    if (written < Buffer.byteLength(line)) throw new Error('the disk took a part of the line')
  }
  return {
    write(line) {
      try {
        if (bytes > 0 && bytes + Buffer.byteLength(line) > bytesMax) rotate()
        // A full disk may have cut the last line short.
        if (lost > 0) append(`\n{"level":"error","lines":${lost},"msg":"log lines were lost"}\n`)
        lost = 0
        append(line)
      } catch {
        // Nobody could be told: this is the log.
        lost++
      }
    },
  }
}
