// The same container as a job's, made by containerd alone: no temp disk, no network link, no job table. What remains
// is what create and start cost whoever asks for them; the rest of a job's start is ours.
import { ociSpec } from '../../host/container/spec.core.ts'
import { containerSpec, noProfile, withDefaults } from '../../host/job/spec.core.ts'
import { hostPaths } from '../../host/paths.ts'
import type { Mountspec } from '../../host/types.ts'
import { ContainerdClient } from '../../pkg/containerd/client.ts'
import { isContainerdError } from '../../pkg/containerd/errors.ts'
import { jobId } from '../../pkg/ids/ids.ts'
import type { TestHost } from '../cluster/types.ts'

const sigkill = 9
const endTimeoutMs = 30_000
const dir = '/var/lib/flynn/bench'
const namespace = 'bench'
const runcRoot = '/run/flynn/bench-runc'

export type BareContainerd = AsyncDisposable & {
  /** Milliseconds from the first call until the container's program was started. The container is gone afterwards. */
  createAndStart(): Promise<number>
}

/** Talks to the host's own containerd, from this machine. Some job has to keep the layer mounted. */
export async function openBareContainerd(host: TestHost, image: Mountspec): Promise<BareContainerd> {
  const paths = hostPaths()
  const socket = `/proc/${host.pid}/root${paths.containerdSocket}`
  const client = new ContainerdClient({ socket, namespace })
  await client.ensureNamespace()
  await host.run(['mkdir', '-p', dir, runcRoot])
  await host.writeFile(`${dir}/resolv.conf`, '')
  const layer = `${paths.layersDir}/${image.id}`
  return {
    async createAndStart() {
      const id = jobId(host.name)
      const root = `${dir}/${id}`
      await host.run(['mkdir', '-p', `${root}/upper/etc`, `${root}/work`])
      await host.run(['touch', `${root}/stdout`, `${root}/stderr`, `${root}/upper/etc/resolv.conf`])
      const spec = bareSpec(id, layer)
      const options = [`lowerdir=${layer}`, `upperdir=${root}/upper`, `workdir=${root}/work`]
      const began = performance.now()
      await client.createContainer({ id, spec, runcRoot })
      await client.createTask({
        id,
        rootfs: [{ type: 'overlay', source: 'overlay', options }],
        stdin: '',
        stdout: `${root}/stdout`,
        stderr: `${root}/stderr`,
        terminal: false,
      })
      await client.startTask(id)
      const tookMs = performance.now() - began
      await end(client, id)
      await host.run(['rm', '-rf', root])
      return tookMs
    },
    async [Symbol.asyncDispose]() {
      client.close()
    },
  }
}

function bareSpec(id: string, layer: string): object {
  const job = withDefaults({ id, config: { args: ['sleep', '1000'], env: { DISCOVERD: 'none' } } })
  const spec = containerSpec(job, {
    ...{ externalIp: '', listenIp: '', discoverd: undefined, authKey: '', address: undefined },
    ...{ layers: [layer], volumePaths: {}, profiles: noProfile },
  })
  const machine = {
    arch: process.arch,
    openFilesMax: Number.MAX_SAFE_INTEGER,
    limitsSwap: false,
    initProgram: '/usr/bin/tini-static',
  }
  return ociSpec(spec, { machine, cgroupRoot: '/bench', resolvConf: `${dir}/resolv.conf` })
}

async function end(client: ContainerdClient, id: string): Promise<void> {
  await client.killTask(id, sigkill, true)
  try {
    await client.waitTask(id, AbortSignal.timeout(endTimeoutMs))
  } catch (e) {
    if (!isContainerdError(e, 'not-found')) throw e
  }
  await client.deleteTask(id)
  await client.deleteContainer(id)
}
