// What the built images hold: every file named by its hash, and programs that start in nothing but their own layers.
import assert from 'node:assert/strict'
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { imageId } from '../../pkg/image/image.ts'
import { hashFile } from '../../pkg/image/pack.ts'
import type { Images, Layer } from '../../pkg/image/types.ts'
import { mount, unmount } from '../../pkg/mount/mount.ts'
import { run } from '../../pkg/proc/run.ts'
import { enginePaths, inOwnNamespaces } from './engine-host.ts'

inOwnNamespaces(import.meta.filename)

const repository = join(import.meta.dirname, '../..')
const built = join(repository, 'build/images')
const place = enginePaths().stateDir
let images: Images

before(async () => {
  const text = await readFile(join(built, 'images.json'), 'utf8').catch(() => undefined)
  assert.ok(text, 'the images are not built: run node images/main.ts')
  images = JSON.parse(text)
})

function layersOf(image: string): readonly Layer[] {
  const layers = images[image]?.manifest?.rootfs?.[0]?.layers
  assert.ok(layers, `${image} is not built`)
  return layers
}

/** Mounts an image as a job would see it, with /dev and /proc, and runs `work` with its root. */
async function inImage(image: string, work: (root: string, upper: string) => Promise<void>): Promise<void> {
  const dir = join(place, image)
  const mounted: string[] = []
  const lower: string[] = []
  const mountAt = async (target: string, type: string, source: string, options: readonly string[]) => {
    await mkdir(target, { recursive: true })
    await mount({ type, source, target, options })
    mounted.push(target)
  }
  try {
    for (const layer of layersOf(image)) {
      const target = join(dir, layer.id)
      await mountAt(target, 'squashfs', join(built, 'layers', `${layer.id}.squashfs`), ['ro', 'loop'])
      lower.unshift(target)
    }
    const root = join(dir, 'root')
    for (const name of ['upper', 'work']) await mkdir(join(dir, name))
    const dirs = [`lowerdir=${lower.join(':')}`, `upperdir=${dir}/upper`, `workdir=${dir}/work`]
    await mountAt(root, 'overlay', 'overlay', dirs)
    await mountAt(join(root, 'proc'), 'proc', 'proc', ['ro'])
    await mountAt(join(root, 'dev'), 'tmpfs', 'tmpfs', ['mode=755'])
    await mountAt(join(root, 'dev/shm'), 'tmpfs', 'tmpfs', ['mode=1777'])
    for (const name of ['null', 'zero', 'urandom', 'random'])
      await cp(`/dev/${name}`, join(root, 'dev', name))
    await work(root, join(dir, 'upper'))
  } finally {
    for (const target of mounted.reverse()) await unmount(target)
    await rm(dir, { recursive: true, force: true })
  }
}

const jobEnv = [
  'env',
  '-i',
  'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  'HOME=/',
] as const

async function inside(root: string, ...argv: readonly string[]): Promise<string> {
  const { stdout, stderr } = await run([...jobEnv, 'chroot', root, ...argv], { timeoutMs: 60_000 })
  return (stdout || stderr).trim()
}

test('every layer file is named by its own SHA-512/256', async () => {
  const files = (await readdir(join(built, 'layers'))).filter(name => name.endsWith('.squashfs'))
  assert.ok(files.length > 0)
  for (const file of files) {
    const { hash, length } = await hashFile(join(built, 'layers', file))
    const layer = JSON.parse(await readFile(join(built, 'layers', `${hash}.json`), 'utf8')) as Layer
    assert.deepEqual([`${hash}.squashfs`, layer.id, layer.length], [file, hash, length])
    assert.equal(layer.hashes?.['sha512_256'], hash)
  }
})

test('every image names its manifest by its id and the size of its canonical JSON', () => {
  for (const [name, artifact] of Object.entries(images)) {
    assert.ok(artifact.manifest, name)
    assert.equal(artifact.hashes?.['sha512_256'], imageId(artifact.manifest))
    assert.equal(artifact.meta?.['manifest.id'], imageId(artifact.manifest))
    assert.equal(artifact.meta?.['flynn.component'], name)
  }
})

test('the node base runs node 24 with time zones, certificates, a shell and a supervisor', async () => {
  await inImage('discoverd', async root => {
    assert.match(await inside(root, 'node', '--version'), /^v24\./)
    const zone = 'process.env.TZ="Asia/Tokyo";console.log(new Date(0).getHours())'
    assert.equal(await inside(root, 'node', '-e', zone), '9')
    const roots =
      'console.log(require("fs").readFileSync("/etc/ssl/certs/ca-certificates.crt","utf8").match(/BEGIN/g).length>100)'
    assert.equal(await inside(root, 'node', '-e', roots), 'true')
    assert.equal(await inside(root, 'sh', '-c', 'echo shell; test -x /usr/bin/runsvdir'), 'shell')
    assert.match(await inside(root, 'tini', '--version'), /tini/)
    assert.match(
      await inside(root, 'setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups', 'id'),
      /999/,
    )
  })
})

test('the discoverd image holds etcd', async () => {
  await inImage('discoverd', async root =>
    assert.match(await inside(root, 'etcd', '--version'), /etcd Version/),
  )
})

test('bundles in images load with the files they read beside them', async () => {
  await inImage('discoverd', async root => {
    const found = await run([...jobEnv, 'chroot', root, 'node', '/bin/flynn-discoverd.mjs'], {
      accept: [1, 2, 64],
      timeoutMs: 20_000,
    })
    assert.doesNotMatch(`${found.stdout}${found.stderr}`, /ENOENT|ERR_MODULE_NOT_FOUND|SyntaxError/)
  })
})

test('PostgreSQL is set up, serves, and loads its extensions in the postgres image', async () => {
  await inImage('postgres', async root => {
    await writeFile(join(root, 'tmp/try'), postgresScript, { mode: 0o755 })
    const user = ['setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups', '--no-new-privs']
    const out = await inside(root, ...user, '/tmp/try')
    assert.deepEqual(out.split('\n').slice(-4), ['UTF8', '42', 't', 'stopped'])
  })
})

const postgresScript = `#!/bin/sh
set -eu
export HOME=/tmp PGDATA=/tmp/db PGHOST=/tmp
initdb --encoding=UTF8 --locale=C.UTF-8 --auth=trust >/tmp/initdb.log 2>&1 || { cat /tmp/initdb.log; exit 1; }
pg_ctl -w -s -o '-h "" -k /tmp' -l /tmp/log start
q() { psql -X -q -A -t -c "$1" postgres; }
q 'show server_encoding'
q 'create extension "uuid-ossp"; create extension pgcrypto; create extension hstore; create extension pg_trgm'
q 'select 6 * 7'
q 'select length(crypt(uuid_generate_v4()::text, gen_salt($$bf$$))) > 20'
pg_dump -Fc -f /tmp/dump postgres
pg_restore --list /tmp/dump >/dev/null
pg_rewind --version >/dev/null
pg_basebackup --version >/dev/null
pg_ctl -w -s -m fast stop
echo stopped
`

test('Patroni starts in the postgres image and knows etcd 3', async () => {
  await inImage('postgres', async root => {
    assert.match(await inside(root, 'patroni', '--version'), /^patroni \d/)
    assert.equal(await inside(root, 'python3', '-c', 'import patroni.dcs.etcd3; print("etcd3")'), 'etcd3')
  })
})

test('Python in the postgres image has its bytecode ready', async () => {
  await inImage('postgres', async (root, upper) => {
    await inside(root, 'python3', '-c', 'import patroni.ha, psycopg2, yaml')
    const written = await readdir(upper, { recursive: true })
    assert.deepEqual(
      written.filter(path => path.endsWith('.pyc')),
      [],
    )
  })
})

test('HAProxy starts in the router image', async () => {
  await inImage('router', async root => assert.match(await inside(root, 'haproxy', '-v'), /HAProxy version/))
})

for (const image of ['discoverd', 'postgres', 'router'])
  test(`every program and library of the ${image} image finds its libraries`, async () => {
    await inImage(image, async root => {
      const script = `find /usr -type f \\( -perm -1 -o -name '*.so*' \\) | while read -r f; do
        [ "$(head -c 4 "$f" | tail -c 3)" = ELF ] || continue
        # A static program or library needs nothing; the loader says so by another exit code than 0 and 2.
        { /lib64/ld-linux-x86-64.so.2 --verify "$f"; } 2>/dev/null; case $? in 0|2) ;; *) continue;; esac
        /lib64/ld-linux-x86-64.so.2 --list "$f" 2>&1 | grep -E 'not found|cannot open' | sed "s|^|$f: |"
      done`
      const { stdout } = await run([...jobEnv, 'chroot', root, 'sh', '-c', script], { timeoutMs: 120_000 })
      assert.equal(stdout, '')
    })
  })

test('the stack holds the tools apps are built with, and no trace of the machine it was built on', async () => {
  await inImage('stack', async root => {
    const tools = ['git', 'python3', 'gcc', 'g++', 'make', 'curl', 'psql', 'pip3']
    for (const tool of tools)
      assert.match(await inside(root, 'sh', '-c', `command -v ${tool}`), /^\/usr\/bin\//)
    assert.match(await inside(root, 'node', '--version'), /^v24\./)
    assert.match(await inside(root, 'npm', '--version'), /^\d+\./)
    assert.equal(await inside(root, 'sh', '-c', 'LC_ALL=C.UTF-8 locale charmap'), 'UTF-8')
    assert.match(await inside(root, 'id', 'app'), /uid=1000/)
    const hello =
      'printf "#include <stdio.h>\\nint main(){puts(\\"built\\");}" | gcc -xc - -o /tmp/a && /tmp/a'
    assert.equal(await inside(root, 'sh', '-c', hello), 'built')
    const traces =
      'find /etc/apt /var/lib/apt/lists /etc/hostname /etc/resolv.conf -name "*.list" -o -name "*.sources" -o -name "*auth*"'
    assert.equal(await inside(root, 'sh', '-c', `${traces} 2>/dev/null || true`), '')
  })
})
