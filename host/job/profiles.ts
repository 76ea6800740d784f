// Profiles give a job devices of the machine (contract host.md 3.7): zfs, kvm, loop.
import { readFile, stat } from 'node:fs/promises'
import { run } from '../../pkg/proc/run.ts'
import type { ContainerDevice } from '../container/types.ts'
import { hostErrors } from '../errors.ts'
import { noProfile, type ProfileParts } from './spec.core.ts'

const zvolBlockMajor = 230

/** A character device by its kernel name, with the numbers it has on this machine. */
async function misc(name: string, path: string): Promise<ContainerDevice> {
  const [major = NaN, minor = NaN] = (await readFile(`/sys/class/misc/${name}/dev`, 'utf8'))
    .trim()
    .split(':')
    .map(Number)
  return { type: 'c', path, major, minor, permissions: 'rwm', fileMode: 0o666 }
}

async function zfs(): Promise<ProfileParts> {
  return {
    ...noProfile,
    devices: [
      await misc('zfs', '/dev/zfs'),
      { type: 'b', major: zvolBlockMajor, minor: -1, permissions: 'rwm' },
    ],
    mounts: [{ source: '/dev/zvol', target: '/dev/zvol', writeable: true }],
  }
}

async function kvm(): Promise<ProfileParts> {
  return {
    ...noProfile,
    devices: [await misc('kvm', '/dev/kvm'), await misc('tun', '/dev/net/tun')],
    capabilities: ['CAP_NET_ADMIN'],
  }
}

async function loop(): Promise<ProfileParts> {
  const device = (await run(['losetup', '--find'])).stdout.trim()
  const { rdev } = await stat(device)
  const [major, minor] = [(rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xfff00)]
  return {
    ...noProfile,
    devices: [{ type: 'b', path: '/dev/loop0', major, minor, permissions: 'rwm', fileMode: 0o660 }],
  }
}

const profiles: Readonly<Record<string, () => Promise<ProfileParts>>> = { zfs, kvm, loop }

/** What the named profiles add together. Rejects INVALID_PROFILE for an unknown name or an absent device. */
export async function profileParts(names: readonly string[]): Promise<ProfileParts> {
  const parts = await Promise.all(
    names.map(async profile => {
      const make = Object.hasOwn(profiles, profile) ? profiles[profile] : undefined
      if (!make) throw hostErrors.INVALID_PROFILE({ profile })
      return make().catch((cause: unknown) => {
        throw hostErrors.PROFILE_ABSENT({ profile }, { cause })
      })
    }),
  )
  return {
    devices: parts.flatMap(p => p.devices),
    mounts: parts.flatMap(p => p.mounts),
    capabilities: parts.flatMap(p => p.capabilities),
  }
}
