// Where an installed Flynn lies on a machine (docs/wiring.md, "Files on a host").
import { join } from 'node:path'

export const layout = {
  libraries: '/usr/local/lib/flynn',
  binaries: '/usr/local/bin',
  configuration: '/etc/flynn',
  state: '/var/lib/flynn',
  layerCache: '/var/lib/flynn/layer-cache',
  logs: '/var/log/flynn',
  runtime: '/run/flynn',
  unit: '/lib/systemd/system/flynn-host.service',
  pidFile: '/run/flynn/flynn-host.pid',
} as const

/** The checkout that this installer runs from. */
export const sourceRoot = join(import.meta.dirname, '..')

export const builtImages = join(sourceRoot, 'build', 'images')
export const builtHost = join(sourceRoot, 'build', 'host')
