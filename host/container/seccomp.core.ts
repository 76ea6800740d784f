// The system calls that a container has no business with. Everything else is allowed: with capabilities, namespaces
// and cgroups in place, a list of what is denied ages better than a list of what is allowed, because a new libc's new
// calls keep working. Calls that a capability guards come back for jobs that have been given it.
import type { Seccomp, SeccompRule } from './oci.ts'

const EPERM = 1
const ENOSYS = 38
const CLONE_NEWUSER = 0x10000000
const AF_ALG = 38
const AF_VSOCK = 40

type Guarded = { readonly capability: string; readonly names: readonly string[] }

/** Denied unless the job holds the capability. */
const guarded: readonly Guarded[] = [
  {
    capability: 'CAP_SYS_ADMIN',
    names: [
      'mount',
      'umount',
      'umount2',
      'pivot_root',
      'fsconfig',
      'fsmount',
      'fsopen',
      'fspick',
      'move_mount',
      'mount_setattr',
      'open_tree',
      'setns',
      'unshare',
      'bpf',
      'perf_event_open',
      'fanotify_init',
      'lookup_dcookie',
      'quotactl',
      'quotactl_fd',
      'sethostname',
      'setdomainname',
      'swapon',
      'swapoff',
      'nfsservctl',
      'vm86',
      'vm86old',
    ],
  },
  {
    capability: 'CAP_SYS_PTRACE',
    names: ['ptrace', 'process_vm_readv', 'process_vm_writev', 'process_madvise', 'kcmp', 'pidfd_getfd'],
  },
  { capability: 'CAP_SYS_MODULE', names: ['init_module', 'finit_module', 'delete_module', 'create_module'] },
  { capability: 'CAP_SYS_BOOT', names: ['reboot', 'kexec_load', 'kexec_file_load'] },
  {
    capability: 'CAP_SYS_TIME',
    names: ['settimeofday', 'clock_settime', 'clock_adjtime', 'adjtimex', 'stime'],
  },
  { capability: 'CAP_SYS_PACCT', names: ['acct'] },
  { capability: 'CAP_SYS_RAWIO', names: ['iopl', 'ioperm'] },
  { capability: 'CAP_SYSLOG', names: ['syslog'] },
  { capability: 'CAP_DAC_READ_SEARCH', names: ['open_by_handle_at', 'name_to_handle_at'] },
  { capability: 'CAP_SYS_NICE', names: ['mbind', 'set_mempolicy', 'migrate_pages', 'move_pages'] },
]

/** Denied to everybody: keyrings are not namespaced, the rest is dead weight or a record of kernel escapes. */
const denied: readonly string[] = [
  'add_key',
  'keyctl',
  'request_key',
  'userfaultfd',
  'get_kernel_syms',
  'query_module',
  'uselib',
  'ustat',
  'sysfs',
  '_sysctl',
]

/** Programs that probe for these fall back when told that they do not exist. */
const absent: readonly string[] = ['io_uring_setup', 'io_uring_enter', 'io_uring_register']

/** Socket families that reach into the host: kernel crypto and the hypervisor. */
function socketRules(): readonly SeccompRule[] {
  return [AF_ALG, AF_VSOCK].map(family => ({
    names: ['socket'],
    action: 'SCMP_ACT_ERRNO',
    errnoRet: EPERM,
    args: [{ index: 0, value: family, op: 'SCMP_CMP_EQ' }],
  }))
}

/**
 * No new user namespaces: in one, every guarded call above would be allowed again. The flags of clone3 lie in memory
 * where a filter cannot look, so it does not exist; libcs then use clone.
 */
function userNamespaceRules(arch: string): readonly SeccompRule[] {
  const flagsIndex = arch === 's390x' ? 1 : 0
  return [
    {
      names: ['clone'],
      action: 'SCMP_ACT_ERRNO',
      errnoRet: EPERM,
      args: [{ index: flagsIndex, value: CLONE_NEWUSER, valueTwo: CLONE_NEWUSER, op: 'SCMP_CMP_MASKED_EQ' }],
    },
    { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
  ]
}

/** Every ABI that the processor runs must be named: calls over an unnamed one end the process. */
const architectures: Readonly<Record<string, readonly string[]>> = {
  x64: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
  arm64: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
  s390x: ['SCMP_ARCH_S390X', 'SCMP_ARCH_S390'],
  riscv64: ['SCMP_ARCH_RISCV64'],
  ppc64: ['SCMP_ARCH_PPC64LE'],
}

/** The profile for a job with these capabilities on this processor (`process.arch`). */
export function seccompProfile(capabilities: readonly string[], arch: string): Seccomp {
  const held = new Set(capabilities)
  const names = guarded.filter(g => !held.has(g.capability)).flatMap(g => g.names)
  return {
    defaultAction: 'SCMP_ACT_ALLOW',
    architectures: architectures[arch] ?? [],
    syscalls: [
      { names: [...names, ...denied], action: 'SCMP_ACT_ERRNO', errnoRet: EPERM },
      { names: absent, action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
      ...socketRules(),
      ...(held.has('CAP_SYS_ADMIN') ? [] : userNamespaceRules(arch)),
    ],
  }
}
