// The engines of a host together, as jobs see them, and how they are made from the daemon's configuration.
import type { DiscoverdClient } from '../discoverd/client.ts'
import type { Logger } from '../pkg/log/log.ts'
import type { DaemonConfig } from './config.ts'
import { ContainerdRuntime } from './container/runtime.ts'
import type { ContainerRuntime, HostNetwork, LayerStore, VolumeStore } from './container/types.ts'
import { SquashfsLayerStore } from './image/store.ts'
import { BridgeNetwork } from './network/network.ts'
import { ZfsVolumeStore } from './volume/store.ts'

export type Engines = {
  readonly runtime: ContainerRuntime
  readonly layers: LayerStore
  readonly volumes: VolumeStore
  readonly network: HostNetwork
}

/** Nothing is opened yet; `isIncoming` tells volumes that are filled from another host. Layers with `*.discoverd` URLs are found through `discoverd`. */
export function makeEngines(
  config: Pick<DaemonConfig, 'paths' | 'partitions'>,
  discoverd: DiscoverdClient,
  log: Logger,
  isIncoming: (volume: string) => boolean,
): Engines {
  const { paths, partitions } = config
  return {
    runtime: new ContainerdRuntime({ paths, partitions, log }),
    layers: new SquashfsLayerStore({ paths, log, resolve: host => resolveHost(discoverd, host) }),
    volumes: new ZfsVolumeStore({ paths, log, isIncoming }),
    network: new BridgeNetwork({ paths, log }),
  }
}

/** `host:port` of `SERVICE.discoverd` or `leader.SERVICE.discoverd`; the host has no discoverd DNS of its own. */
async function resolveHost(discoverd: DiscoverdClient, host: string): Promise<string> {
  return new URL(await discoverd.resolve(`http://${host}`)).host
}
