// What a test sees of a test cluster: several hosts on one machine, each with its own namespaces, root, data
// directories, cgroups and address. `createCluster` in cluster.ts makes them; integration tests and the CLI use them.

/** A directory or file of this machine that shows up in every host of the cluster. */
export type Bind = {
  readonly source: string
  /** Absolute path inside the host; made when it is missing. */
  readonly target: string
  /** Read-only unless true. */
  readonly writeable?: boolean
}

export type ClusterOptions = {
  /** Lower-case letters, digits and dashes; drawn at random when absent. An older cluster of the name is removed. */
  readonly name?: string
  /** They are called h1, h2 ... and are all up when `createCluster` returns. */
  readonly hosts: number
  readonly binds?: readonly Bind[]
  /** Route out of the machine through NAT. Without it a host reaches the other hosts and this machine only. */
  readonly internet?: boolean
  /** What the disk of each host holds, all its directories together. As much as the machine's own when absent. */
  readonly diskBytes?: number
  /** Outlives the process that made it; otherwise any later `createCluster` removes it once that process is gone. */
  readonly keep?: boolean
}

export type ExecOptions = {
  readonly input?: string | Uint8Array
  /** Ends the program with SIGKILL and rejects. */
  readonly timeoutMs?: number
  /** Added to PATH, HOME, LC_ALL and TERM; nothing of the test's own environment is passed on. */
  readonly env?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
}

export type ExecResult = {
  /** 128 + n when signal n ended the program. */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export type SpawnOptions = {
  /** File inside the host that gets stdout and stderr, appended; `/var/log/<program>.log` when absent. */
  readonly log?: string
  readonly env?: Readonly<Record<string, string>>
}

/** A program that runs on in the host until it ends or the power goes; it does not depend on the test process. */
export type BackgroundProcess = {
  /** As seen inside the host. */
  readonly pid: number
  /** As seen on this machine; undefined when it ended before it could be found. */
  readonly machinePid: number | undefined
  readonly log: string
  readonly alive: boolean
  kill(signal?: NodeJS.Signals): void
}

export type FetchOptions = RequestInit & {
  /** 80 when absent. */
  readonly port?: number
  readonly timeoutMs?: number
}

export type TestHost = {
  readonly name: string
  /** IPv4 on the test bridge; this machine reaches it directly. */
  readonly address: string
  /** PID 1 of the host, as seen on this machine; undefined while the power is off. */
  readonly pid: number | undefined
  readonly alive: boolean
  /** Powers on, with the disks as they were left. Does nothing when the host is up. */
  up(): Promise<void>
  /** Runs a program to its end. A bad exit code is a result, not an error; a host that is off rejects. */
  exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult>
  /** `exec` that rejects on any exit code but 0 and answers stdout. */
  run(argv: readonly string[], options?: ExecOptions): Promise<string>
  spawn(argv: readonly string[], options?: SpawnOptions): Promise<BackgroundProcess>
  readFile(path: string): Promise<string>
  /** Makes missing parent directories; mode is octal, 0o644 when absent. */
  writeFile(path: string, content: string | Uint8Array, options?: { readonly mode?: number }): Promise<void>
  /** HTTP from the test process to the host: `host.fetch('/status', { port: 1113 })`. */
  fetch(path: string, options?: FetchOptions): Promise<Response>
  /**
   * Pulls the plug: network first, then every process at once. Disks keep what was written, synced or not, because
   * the page cache is the machine's.
   */
  powerOff(): Promise<void>
  /** `powerOff`, then `up`. */
  reboot(): Promise<void>
  /** Every process stands still until `thaw`: a hung machine, whose connections stay open. */
  freeze(): Promise<void>
  thaw(): Promise<void>
}

export type TestCluster = AsyncDisposable & {
  readonly name: string
  readonly hosts: readonly TestHost[]
  /** The address of this machine on the test bridge, and the hosts' default route. */
  readonly gateway: string
  /** The host of that name or number (1 is h1); throws when there is none. */
  host(which: string | number): TestHost
  /** Drops what `a` and `b` send each other; with `oneWay` only what `a` sends to `b`. */
  cut(a: TestHost | string, b: TestHost | string, options?: { readonly oneWay?: boolean }): Promise<void>
  /** Ends every cut. */
  heal(): Promise<void>
  /** Powers every host off and removes all traces, disks included. Safe to call twice. */
  down(): Promise<void>
}

/** What is still there of a cluster; every list is empty after `down`. */
export type Leftovers = {
  readonly processes: readonly string[]
  readonly cgroups: readonly string[]
  readonly mounts: readonly string[]
  readonly loops: readonly string[]
  readonly links: readonly string[]
  readonly tables: readonly string[]
  readonly directories: readonly string[]
}
