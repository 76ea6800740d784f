// `flynn-host`: the process around the commands.

import { exitWhenPrinted } from '../pkg/proc/exit.ts'
import { runCommandLine } from './cli/commands.ts'
import { findHosts, readAuthKey } from './cli/hosts.ts'

// A reader that has seen enough (`flynn-host ps | head`) is no error.
process.stdout.on('error', (e: NodeJS.ErrnoException) => {
  if (e.code === 'EPIPE') process.exit(0)
  throw e
})

const code = await runCommandLine(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  authKey: () => readAuthKey(process.env),
  hosts: () =>
    findHosts(process.env, readAuthKey(process.env), text => {
      process.stderr.write(`flynn-host: ${text}\n`)
    }),
})
// Not by itself: a connection that was being made to a host without power keeps the process for two minutes.
await exitWhenPrinted(code)
