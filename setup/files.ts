// Puts what was built where the daemon and its operator look for it. Every file is written beside its place and
// renamed, so a running daemon never sees half of one (contract host.md 10, item 29).
import {
  chmod,
  copyFile,
  link,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { invariant } from '../pkg/errors/errors.ts'
import type { Images } from '../pkg/image/types.ts'
import { nodeLauncher } from '../pkg/node/launcher.ts'
import { builtHost, builtImages, layout, sourceRoot } from './layout.ts'

async function place(source: string, target: string, mode: number): Promise<void> {
  const temporary = `${target}.new`
  await rm(temporary, { force: true })
  await copyFile(source, temporary)
  await chmod(temporary, mode)
  await rename(temporary, target)
}

async function placeText(text: string, target: string, mode: number): Promise<void> {
  await writeFile(`${target}.new`, text, { mode })
  await rename(`${target}.new`, target)
}

/** Layers are named by their content: one that is there with the right size is the right one. */
async function placeLayer(source: string, target: string): Promise<void> {
  const [from, to] = await Promise.all([stat(source), stat(target).catch(() => undefined)])
  if (to?.size === from.size) return
  const temporary = `${target}.new`
  await rm(temporary, { force: true })
  try {
    await link(source, temporary)
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code !== 'EXDEV') throw e
    await copyFile(source, temporary)
  }
  await rename(temporary, target)
}

async function placeTree(source: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true })
  for (const entry of await readdir(source, { withFileTypes: true })) {
    const from = join(source, entry.name)
    const to = join(target, entry.name)
    if (entry.isDirectory()) await placeTree(from, to)
    else await place(from, to, (await stat(from)).mode & 0o777)
  }
}

/** Parts of a split bundle carry a hash in their names, so those of another version are not written over. */
async function removeOldParts(): Promise<void> {
  const current = new Set(await readdir(builtHost))
  for (const name of await readdir(layout.libraries)) {
    if (/^flynn-.+-[A-Z0-9]{8}\.mjs$/.test(name) && !current.has(name))
      await rm(join(layout.libraries, name), { force: true })
  }
}

const bundle = (command: string) => join(layout.libraries, `${command}.mjs`)
const nodeCopy = join(layout.libraries, 'node')

/**
 * flynn-host runs on the node of its jobs, out of their layer, mounted where it looks for layers: one binary in memory
 * instead of two (47 MB less). Where that cannot be mounted, the copy beside the bundle does.
 */
function hostLauncher(nodeLayer: string): string {
  const mounted = join(layout.state, 'layers', nodeLayer)
  const source = join(layout.layerCache, `${nodeLayer}.squashfs`)
  return nodeLauncher({
    node: '"$node"',
    args: [bundle('flynn-host')],
    resident: true,
    before: [
      `node=${mounted}/usr/bin/node`,
      'if [ "$1" = daemon ] && [ ! -x "$node" ]; then',
      `  mkdir -p ${mounted} && mount -t squashfs -o ro,loop,noatime ${source} ${mounted}`,
      'fi',
      `[ -x "$node" ] || node=${nodeCopy}`,
    ],
  })
}

/** The lowest layer of every image (docs/wiring.md). */
async function nodeLayerId(): Promise<string> {
  const images = JSON.parse(await readFile(join(builtImages, 'images.json'), 'utf8')) as Images
  const layer = images['discoverd']?.manifest?.rootfs?.[0]?.layers?.[0]
  invariant(layer !== undefined, 'images', 'images.json names no layer of discoverd')
  return layer.id
}

/** Binaries, bundles, images, manifest. Returns how many layers were looked at. */
export async function installFiles(): Promise<number> {
  for (const dir of [
    layout.libraries,
    layout.configuration,
    layout.layerCache,
    layout.logs,
    dirname(layout.unit),
  ]) {
    await mkdir(dir, { recursive: true })
  }
  await placeTree(builtHost, layout.libraries)
  await removeOldParts()
  await place(join(sourceRoot, 'setup', 'run-daemon'), join(layout.libraries, 'run-daemon'), 0o755)
  const flynn = nodeLauncher({ node: nodeCopy, args: [bundle('flynn')] })
  await placeText(flynn, join(layout.binaries, 'flynn'), 0o755)
  await placeText(hostLauncher(await nodeLayerId()), join(layout.binaries, 'flynn-host'), 0o755)
  await rm(join(layout.binaries, 'flynn-linux-amd64'), { force: true })
  await symlink('flynn', join(layout.binaries, 'flynn-linux-amd64'))
  await place(join(builtImages, 'images.json'), join(layout.configuration, 'images.json'), 0o644)
  await place(
    join(sourceRoot, 'bootstrap', 'manifest.json'),
    join(layout.configuration, 'bootstrap-manifest.json'),
    0o644,
  )
  const layers = (await readdir(join(builtImages, 'layers'))).filter(name => name.endsWith('.squashfs'))
  for (const layer of layers) {
    await placeLayer(join(builtImages, 'layers', layer), join(layout.layerCache, basename(layer)))
  }
  return layers.length
}
