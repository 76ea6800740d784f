// The part of the OCI runtime specification (1.0.2) that our containers use, as types.

export type OciMount = {
  readonly destination: string
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
}

export type OciDevice = {
  readonly path: string
  readonly type: 'c' | 'b' | 'u' | 'p'
  readonly major: number
  readonly minor: number
  readonly fileMode?: number
  readonly uid?: number
  readonly gid?: number
}

export type OciDeviceRule = {
  readonly allow: boolean
  readonly type?: 'c' | 'b' | 'a'
  /** Absent: every number. */
  readonly major?: number
  readonly minor?: number
  readonly access: string
}

export type OciResources = {
  readonly devices: readonly OciDeviceRule[]
  readonly memory: { readonly limit: number; readonly swap?: number }
  readonly cpu?: { readonly shares: number }
  readonly pids: { readonly limit: number }
}

export type SeccompArg = {
  readonly index: number
  readonly value: number
  readonly valueTwo?: number
  readonly op: 'SCMP_CMP_EQ' | 'SCMP_CMP_NE' | 'SCMP_CMP_MASKED_EQ'
}

export type SeccompRule = {
  readonly names: readonly string[]
  readonly action: 'SCMP_ACT_ERRNO' | 'SCMP_ACT_ALLOW'
  readonly errnoRet?: number
  readonly args?: readonly SeccompArg[]
}

export type Seccomp = {
  readonly defaultAction: 'SCMP_ACT_ALLOW'
  readonly architectures: readonly string[]
  readonly syscalls: readonly SeccompRule[]
}

export type OciNamespace = { readonly type: 'pid' | 'ipc' | 'uts' | 'mount' | 'network' | 'cgroup' }

export type OciCapabilities = {
  readonly bounding: readonly string[]
  readonly effective: readonly string[]
  readonly permitted: readonly string[]
  readonly inheritable: readonly string[]
  readonly ambient: readonly string[]
}

export type OciProcess = {
  readonly terminal: boolean
  readonly consoleSize?: { readonly height: number; readonly width: number }
  readonly user: { readonly uid: number; readonly gid: number; readonly additionalGids?: readonly number[] }
  readonly args: readonly string[]
  readonly env: readonly string[]
  readonly cwd: string
  readonly capabilities: OciCapabilities
  readonly rlimits: readonly { readonly type: string; readonly soft: number; readonly hard: number }[]
  readonly noNewPrivileges: boolean
  readonly oomScoreAdj: number
}

export type OciSpec = {
  readonly ociVersion: string
  readonly process: OciProcess
  readonly root: { readonly path: string; readonly readonly: boolean }
  readonly hostname?: string
  readonly mounts: readonly OciMount[]
  readonly linux: {
    readonly cgroupsPath: string
    readonly namespaces: readonly OciNamespace[]
    readonly resources: OciResources
    readonly devices: readonly OciDevice[]
    readonly maskedPaths: readonly string[]
    readonly readonlyPaths: readonly string[]
    readonly seccomp?: Seccomp
  }
}
