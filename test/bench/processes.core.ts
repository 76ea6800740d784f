// From the texts of /proc to memory and processor time by process, and whose process it is. Pure.

export type Memory = { readonly pssBytes: number; readonly rssBytes: number; readonly anonymousBytes: number }

/** One process at two moments. */
export type Sample = {
  readonly pid: number
  readonly argv: readonly string[]
  readonly cgroup: string
  readonly memory: Memory
  /** Percent of one core between the two moments. */
  readonly cpuPercent: number
}

/** Nanoseconds out of cpuacct.usage (cgroup version 1) or cpu.stat (version 2). */
export function parseCgroupCpu(text: string): number {
  const usec = /^usage_usec (\d+)$/m.exec(text)?.[1]
  return usec === undefined ? Number(text.trim()) : Number(usec) * 1000
}

export type Owner =
  | { readonly kind: 'host' }
  | { readonly kind: 'job'; readonly partition: string; readonly jobId: string }

/** /proc/<pid>/smaps_rollup; undefined for a process that has no memory of its own. */
export function parseMemory(text: string): Memory | undefined {
  const bytes = (name: string) => {
    const kib = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]
    return kib === undefined ? undefined : Number(kib) * 1024
  }
  const pssBytes = bytes('Pss')
  const rssBytes = bytes('Rss')
  if (pssBytes === undefined || rssBytes === undefined) return undefined
  return { pssBytes, rssBytes, anonymousBytes: bytes('Pss_Anon') ?? 0 }
}

/**
 * Clock ticks in user and kernel mode from /proc/<pid>/stat (proc(5)). Without those of ended children: their whole life
 * would count for the moment of their end.
 */
export function parseCpuTicks(stat: string): number {
  // The name may hold blanks and parentheses; what follows the last one does not.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return [11, 12].reduce((sum, i) => sum + Number(fields[i] ?? 0), 0)
}

/** Whom a process serves: the job of its cgroup, the job that a shim keeps, or the host itself. */
export function ownerOf(cgroup: string, argv: readonly string[], jobs: ReadonlyMap<string, string>): Owner {
  const inside = /\/flynn\/([^/\n]+)\/([^/\n]+)/.exec(cgroup)
  if (inside) return { kind: 'job', partition: inside[1] ?? '', jobId: inside[2] ?? '' }
  const jobId = argv[argv.indexOf('-id') + 1]
  const isShim = argv[0]?.includes('containerd-shim') === true
  if (isShim && jobId !== undefined) return { kind: 'job', partition: jobs.get(jobId) ?? 'unknown', jobId }
  return { kind: 'host' }
}

/** A short name for a table: the program, and the script or title that tells it from others. */
export function shortName(argv: readonly string[]): string {
  const base = (path: string) => path.slice(path.lastIndexOf('/') + 1)
  const [first = '', ...rest] = argv
  if (first.startsWith('postgres: '))
    return isPostgresWorker(first) ? 'postgres workers' : 'postgres backends'
  const program = base(first)
  const interpreted = ['node', 'python3', 'sh'].includes(program)
  const script = interpreted ? rest.find(arg => !arg.startsWith('-')) : undefined
  return script === undefined ? program : `${program} ${base(script)}`
}

/** PostgreSQL rewrites its arguments to a title: its own workers have names, backends a user and a database. */
function isPostgresWorker(title: string): boolean {
  return /: (checkpointer|background writer|walwriter|autovacuum|logical replication|walsender|archiver)/.test(
    title,
  )
}
