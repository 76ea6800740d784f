// Starts and stops flynn-host on this machine: by systemd where that runs, else as a plain process kept up by
// run-daemon. Stopping never stops jobs (architecture, departures).
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { operatorNeededStatus } from '../host/types.ts'
import { poll } from '../pkg/clock/clock.ts'
import { run } from '../pkg/proc/run.ts'
import { layout } from './layout.ts'

export const daemonStartTimeoutMs = 60_000

const unit = `[Unit]
Description=Flynn host daemon
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=simple
ExecStart=${layout.binaries}/flynn-host daemon
Restart=always
RestartSec=1
# Known from systemd 254 on; before it, every second.
RestartSteps=4
RestartMaxDelaySec=10
RestartPreventExitStatus=${operatorNeededStatus}
Delegate=yes
KillMode=process
LimitNOFILE=infinity

[Install]
WantedBy=multi-user.target
`

export function hasSystemd(): boolean {
  return existsSync('/run/systemd/system')
}

async function daemonPid(): Promise<number | undefined> {
  const text = await readFile(layout.pidFile, 'utf8').catch(() => undefined)
  const pid = Number(text)
  if (!Number.isInteger(pid) || pid <= 0) return undefined
  try {
    process.kill(pid, 0)
    return pid
  } catch {
    return undefined
  }
}

async function answers(): Promise<boolean> {
  const res = await fetch('http://127.0.0.1:1113/host/status', { signal: AbortSignal.timeout(2000) })
  return res.ok
}

/** True when the daemon ended and is not started again: it needs an operator. */
type HasGivenUp = () => Promise<boolean>

async function startBySystemd(restart: boolean): Promise<HasGivenUp> {
  await writeFile(layout.unit, unit)
  await run(['systemctl', 'daemon-reload'])
  await run(['systemctl', 'enable', '--quiet', 'flynn-host'])
  await run(['systemctl', restart ? 'restart' : 'start', 'flynn-host'])
  return () =>
    run(['systemctl', 'is-failed', '--quiet', 'flynn-host']).then(
      () => true,
      () => false,
    )
}

async function startByKeeper(restart: boolean): Promise<HasGivenUp> {
  if (restart) await stopDaemon()
  if ((await daemonPid()) !== undefined) return async () => false
  const keeper = spawn(`${layout.libraries}/run-daemon`, { detached: true, stdio: 'ignore', cwd: '/' })
  keeper.unref()
  return async () => keeper.exitCode !== null
}

/** Resolves when the daemon's API answers. Starting a running one is fine; `restart` takes new files into use. */
export async function startDaemon(options: { readonly restart: boolean }): Promise<void> {
  const hasGivenUp = await (hasSystemd() ? startBySystemd : startByKeeper)(options.restart)
  const state = await poll(
    async () => {
      if (await hasGivenUp()) return 'given up'
      return (await answers()) ? 'up' : undefined
    },
    {
      timeoutMs: daemonStartTimeoutMs,
      intervalMs: 200,
      what: 'flynn-host to answer; see /var/log/flynn/flynn-host.log',
    },
  )
  if (state === 'given up')
    throw new Error(
      'flynn-host ended and waits for you; see /var/log/flynn/flynn-host.log for the reason and what to do',
    )
}

export async function stopDaemon(): Promise<void> {
  if (hasSystemd()) {
    await run(['systemctl', 'stop', 'flynn-host'], { accept: [5], timeoutMs: 60_000 })
    return
  }
  const pid = await daemonPid()
  if (pid === undefined) return
  process.kill(pid, 'SIGTERM')
  await poll(async () => (await daemonPid()) === undefined, { timeoutMs: 30_000, what: 'flynn-host to stop' })
}
