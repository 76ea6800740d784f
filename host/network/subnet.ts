// Which /24 of the overlay network this host uses: the one it had before, else one that follows from its id, so that
// a host whose state was lost comes back to the same addresses. With more hosts the leases in etcd decide.
import { createHash } from 'node:crypto'
import type { HostDatabase } from '../database.ts'
import { bridgeSubnet, chooseSubnet } from './lease.core.ts'
import { overlayNetwork } from './rules.core.ts'

export const subnetPrefix = 24
const settingKey = 'subnet'

/** From 0 up to but not 1, the same for the same host. */
export function drawOf(hostId: string): number {
  return createHash('sha256').update(hostId).digest().readUInt16BE(0) / 0x1_0000
}

/** Bridge address of the host's subnet, e.g. 100.100.57.1/24. */
export function subnetOf(hostId: string): string {
  const lease = chooseSubnet({
    network: overlayNetwork,
    prefix: subnetPrefix,
    host: hostId,
    taken: [],
    random: drawOf(hostId),
  })
  const subnet = lease === undefined ? undefined : bridgeSubnet(lease)
  if (subnet === undefined) throw new Error(`no subnet in ${overlayNetwork}`)
  return subnet
}

export function storedSubnet(database: HostDatabase): string | undefined {
  return database.getSetting<string>(settingKey)
}

export function storeSubnet(database: HostDatabase, subnet: string): void {
  database.setSetting(settingKey, subnet)
}
