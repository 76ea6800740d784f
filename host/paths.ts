// Every file, socket and kernel name that a host owns, in one record (docs/wiring.md "Files on a host"). Engines take
// it as a value, so a test runs a whole host in directories and names of its own.
import { join } from 'node:path'

export type HostPaths = {
  /** /etc/flynn: what people and the installer write. */
  readonly configDir: string
  readonly configFile: string
  readonly authKeyFile: string
  /** resolv.conf of every container that has the cluster's name servers. */
  readonly resolvConf: string
  readonly imagesFile: string
  readonly bootstrapManifestFile: string
  /** The machine's own resolv.conf, and the one with the real upstreams where the first names only a local stub. */
  readonly hostResolvConf: string
  readonly systemdResolvConf: string

  /** /var/lib/flynn: state that survives a reboot. */
  readonly stateDir: string
  readonly databaseFile: string
  readonly layerCacheDir: string
  readonly layersDir: string
  readonly jobsDir: string
  readonly volumesDir: string

  readonly logDir: string
  readonly daemonLogFile: string

  /** The containerd that the daemon owns: data, run-time state, socket, configuration, log. */
  readonly containerdRootDir: string
  readonly containerdStateDir: string
  readonly containerdSocket: string
  readonly containerdConfigFile: string
  readonly containerdLogFile: string
  /** State of runc; private, because container ids and runc's default directory are global on a machine. */
  readonly runcRootDir: string
  readonly containerdNamespace: string

  /** First part of every job's cgroup path: `/flynn/<partition>/<job id>`. */
  readonly cgroupRoot: string
  readonly cgroupMount: string

  readonly zpool: string
  readonly zfsFuseLogFile: string
  readonly zfsFusePidFile: string

  readonly bridge: string
  /** VXLAN device that leads to the other hosts' containers. */
  readonly overlayDevice: string
  readonly nftTable: string
}

export type HostPathsOptions = {
  readonly configDir?: string
  readonly stateDir?: string
  readonly volumesDir?: string
  readonly runDir?: string
  readonly logDir?: string
}

/** The default paths and names; the options move whole trees (daemon flags, tests). */
export function hostPaths(options: HostPathsOptions = {}): HostPaths {
  const configDir = options.configDir ?? '/etc/flynn'
  const stateDir = options.stateDir ?? '/var/lib/flynn'
  const runDir = options.runDir ?? '/run/flynn'
  const logDir = options.logDir ?? '/var/log/flynn'
  return {
    configDir,
    configFile: join(configDir, 'host.json'),
    authKeyFile: join(configDir, 'auth-key'),
    resolvConf: join(configDir, 'resolv.conf'),
    imagesFile: join(configDir, 'images.json'),
    bootstrapManifestFile: join(configDir, 'bootstrap-manifest.json'),
    hostResolvConf: '/etc/resolv.conf',
    systemdResolvConf: '/run/systemd/resolve/resolv.conf',
    stateDir,
    databaseFile: join(stateDir, 'host.sqlite'),
    layerCacheDir: join(stateDir, 'layer-cache'),
    layersDir: join(stateDir, 'layers'),
    jobsDir: join(stateDir, 'jobs'),
    volumesDir: options.volumesDir ?? join(stateDir, 'volumes'),
    logDir,
    daemonLogFile: join(logDir, 'flynn-host.log'),
    containerdRootDir: join(stateDir, 'containerd'),
    containerdStateDir: join(runDir, 'containerd'),
    containerdSocket: join(runDir, 'containerd.sock'),
    containerdConfigFile: join(runDir, 'containerd.toml'),
    containerdLogFile: join(logDir, 'containerd.log'),
    runcRootDir: join(runDir, 'runc'),
    containerdNamespace: 'flynn',
    cgroupRoot: '/flynn',
    cgroupMount: '/sys/fs/cgroup',
    zpool: 'flynn-default',
    zfsFuseLogFile: join(logDir, 'zfs-fuse.log'),
    zfsFusePidFile: join(runDir, 'zfs-fuse.pid'),
    bridge: 'flynnbr0',
    overlayDevice: 'flynn.1',
    nftTable: 'flynn',
  }
}
