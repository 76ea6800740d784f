// One JavaScript file, or a few, out of a component's main.ts and all it imports (esbuild). Sources that read files
// beside them through import.meta.url or import.meta.dirname (such as .proto files) find them in the bundle as well:
// those files are copied to `assets/<path in the repository>` next to it. The entry file itself is exempt.
import { createHash } from 'node:crypto'
import { cp, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { type BuildResult, build, version as esbuildVersion, type Plugin } from 'esbuild'
import { run } from '../pkg/proc/run.ts'
import { errors } from './errors.ts'
import type { BundleSpec } from './types.ts'

/**
 * CommonJS packages in an ES module still look for `require` and two more; the latter go by names that no source has,
 * because some ES modules declare `__dirname` themselves.
 */
const commonJsNames = `import { createRequire as createRequireOfBundle } from 'node:module';
const require = createRequireOfBundle(import.meta.url);
const dirnameOfBundle = import.meta.dirname, filenameOfBundle = import.meta.filename;`

/**
 * Asked for only where nothing of ours leads: pg's other engine, and fastify's own compilers (pkg/httpd gives it others)
 * and test client, which are a third of it.
 */
const neverLoaded = [
  'pg-native',
  '@fastify/ajv-compiler',
  '@fastify/fast-json-stringify-compiler',
  'light-my-request',
]

const gitTimeoutMs = 5_000
/** Node prints the line of an error that nobody caught. */
const lineCharactersMax = 200
const builtinNamespace = 'builtin'

export type BundleResult = {
  /** Paths in the repository of everything that went in. */
  readonly inputs: readonly string[]
}

/** Changes when bundles have to be made anew although their sources did not change. */
export async function bundleRecipe(spec: BundleSpec): Promise<string> {
  const text = await readFile(import.meta.filename, 'utf8')
  return createHash('sha512-256')
    .update(JSON.stringify([text, esbuildVersion, spec]))
    .digest('hex')
}

/** `v<date>.0-<commit>` of this checkout, or FLYNN_VERSION, or `dev` where there is neither. */
export async function buildVersion(repository: string): Promise<string> {
  const given = process.env['FLYNN_VERSION']
  if (given) return given
  const argv = ['git', '-C', repository, 'log', '-1', '--date=format:%Y%m%d', '--format=v%cd.0-%h'] as const
  return await run(argv, { timeoutMs: gitTimeoutMs }).then(
    ({ stdout }) => stdout.trim() || 'dev',
    () => 'dev',
  )
}

/** Writes `<name>.mjs`, its parts and `assets/` into `out`, which appears whole or not at all. */
export async function makeBundle(
  spec: BundleSpec,
  repository: string,
  out: string,
  version: string,
): Promise<BundleResult> {
  const entry = join(repository, spec.entry)
  const readers = new Set<string>()
  const partial = `${out}.partial`
  await rm(partial, { recursive: true, force: true })
  await mkdir(partial, { recursive: true })
  const result = await runEsbuild(
    spec,
    repository,
    partial,
    version,
    besidePlugin(repository, entry, readers),
  )
  for (const name of await readdir(partial))
    if (name.endsWith('.mjs')) await escapeNonAscii(join(partial, name))
  const inputs = Object.keys(result.metafile.inputs).filter(
    path => !path.startsWith('(') && !path.startsWith(`${builtinNamespace}:`),
  )
  const assets = await copyAssets(repository, readers, join(partial, 'assets'))
  await rm(out, { recursive: true, force: true })
  await rename(partial, out)
  return { inputs: [...inputs, ...assets].sort() }
}

async function runEsbuild(
  spec: BundleSpec,
  repository: string,
  out: string,
  version: string,
  plugin: Plugin,
): Promise<BuildResult<{ metafile: true }>> {
  try {
    return await build({
      absWorkingDir: repository,
      entryPoints: [{ in: spec.entry, out: spec.name }],
      outdir: out,
      outExtension: { '.js': '.mjs' },
      splitting: spec.split ?? false,
      // All in one directory: what `import.meta` of a source becomes (below) holds for every file of a bundle.
      chunkNames: `${spec.name}-[name]-[hash]`,
      bundle: true,
      platform: 'node',
      format: 'esm',
      target: 'node24',
      external: neverLoaded,
      // V8 keeps the source: without the blanks and comments 0.6 MB less of the smallest process. Names stay, for the stacks in logs.
      minifyWhitespace: true,
      lineLimit: lineCharactersMax,
      banner: { js: commonJsNames },
      define: {
        'process.env.FLYNN_VERSION': JSON.stringify(version),
        __dirname: 'dirnameOfBundle',
        __filename: 'filenameOfBundle',
      },
      legalComments: 'eof',
      logLevel: 'silent',
      metafile: true,
      plugins: spec.split ? [plugin, builtins, unusedModules] : [plugin, builtins],
    })
  } catch (cause) {
    const first = (
      cause as { errors?: readonly { text: string; location?: { file: string; line: number } }[] }
    ).errors?.[0]
    const where = first?.location ? `${first.location.file}:${first.location.line}: ` : ''
    throw errors.BUNDLE_FAILED(
      { entry: spec.entry, reason: `${where}${first?.text ?? String(cause)}` },
      { cause },
    )
  }
}

/**
 * An `import` of one of node's own modules reads every property of it, and some of these are loaded when they are first read:
 * of `node:http` the WebSocket of undici, which takes 6 MB of a node that does nothing else, 21 MB of the whole platform and a
 * sixth of the start of `flynn ps` (docs/numbers.md); of the others web cryptography and argument parsing. What a bundle takes
 * from them is read when it is used.
 */
const builtins: Plugin = {
  name: 'builtins-unread',
  setup(builder) {
    const namespace = builtinNamespace
    builder.onResolve({ filter: /^(node:)?(http|crypto|util)$/ }, ({ path, kind }) =>
      kind === 'import-statement' || kind === 'dynamic-import' ? { path, namespace } : undefined,
    )
    builder.onLoad({ filter: /./, namespace }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)})`,
    }))
  },
}

/**
 * Our modules do nothing when they are loaded but define what they export, so one of which nothing is used may be left
 * out. esbuild cannot know that by itself: schemas are made by calls.
 */
const unusedModules: Plugin = {
  name: 'unused-modules',
  setup(builder) {
    builder.onResolve({ filter: /^\.\.?\/.*\.ts$/ }, ({ path, resolveDir, kind }) =>
      kind === 'import-statement' || kind === 'dynamic-import'
        ? { path: join(resolveDir, path), sideEffects: false }
        : undefined,
    )
  },
}

/**
 * One character beyond ASCII, even in a comment, and V8 keeps the source of the whole bundle at twice the size: 2 to
 * 4 MB of each process. esbuild leaves such characters in comments and regular expressions; both may have them escaped.
 */
async function escapeNonAscii(file: string): Promise<void> {
  const text = await readFile(file, 'utf8')
  const escaped = text.replaceAll(
    /[^\0-\x7f]/g,
    unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  await writeFile(file, escaped)
}

/** Lets `import.meta` of our sources point to where their files are copied; notes which sources need it. */
function besidePlugin(repository: string, entry: string, readers: Set<string>): Plugin {
  return {
    name: 'files-beside-sources',
    setup(builder) {
      builder.onLoad({ filter: /\.ts$/ }, async ({ path }) => {
        if (path === entry || path.includes('/node_modules/')) return undefined
        const text = await readFile(path, 'utf8')
        if (!/\bimport\.meta\.(url|dirname|filename)\b/.test(text)) return undefined
        readers.add(path)
        const place = `assets/${relative(repository, path)}`
        const contents = text
          .replaceAll(/\bimport\.meta\.url\b/g, `new URL('./${place}', import.meta.url).href`)
          .replaceAll(/\bimport\.meta\.dirname\b/g, `(import.meta.dirname + '/${dirname(place)}')`)
          .replaceAll(/\bimport\.meta\.filename\b/g, `(import.meta.dirname + '/${place}')`)
        return { contents, loader: 'ts' }
      })
    },
  }
}

async function copyAssets(
  repository: string,
  readers: ReadonlySet<string>,
  out: string,
): Promise<readonly string[]> {
  const copied: string[] = []
  for (const dir of new Set([...readers].map(path => dirname(path)))) {
    for (const entry of await readdir(dir, { withFileTypes: true, recursive: true })) {
      if (!entry.isFile() || /\.(ts|md)$/.test(entry.name)) continue
      const path = relative(repository, join(entry.parentPath, entry.name))
      await mkdir(dirname(join(out, path)), { recursive: true })
      await cp(join(repository, path), join(out, path))
      copied.push(path)
    }
  }
  return copied
}

/** Files of a finished bundle, sorted. */
export async function outputFiles(dir: string): Promise<readonly string[]> {
  const entries = await readdir(dir, { withFileTypes: true, recursive: true }).catch(() => [])
  return entries
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name))
    .sort()
}

/** Puts a bundle where an image has it: the file under /usr/lib/flynn with its assets, and a link in /bin. */
export async function installBundle(from: string, tree: string): Promise<void> {
  const name = basename(from)
  const library = join(tree, 'usr/lib/flynn')
  await mkdir(library, { recursive: true })
  await cp(from, library, { recursive: true })
  await mkdir(join(tree, 'usr/bin'), { recursive: true })
  await symlink(`../lib/flynn/${name}.mjs`, join(tree, 'usr/bin', `${name}.mjs`))
}
