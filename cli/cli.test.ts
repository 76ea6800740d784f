import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sixDigits } from './commands/log.ts'
import { parseSpecs } from './commands/scale.ts'
import { addCluster, type Cluster, parseConfig, renderConfig } from './config.ts'
import { dialAddress } from './context.ts'
import { effectiveLimits, formatLimit, parseLimits } from './limits.ts'
import { mergeRelease } from './merge.core.ts'
import { parseProcfile, processTypes } from './procfile.ts'
import { parse, parseLeading, splitAction, UsageError } from './usage.ts'

const cluster = (name: string, over: Partial<Cluster> = {}): Cluster => ({
  Name: name,
  Key: `key-${name}`,
  ControllerURL: `https://controller.${name}.test`,
  GitURL: `https://git.${name}.test`,
  ImageURL: `https://images.${name}.test`,
  ...over,
})

test('the configuration file is written in the layout of the original and read back whole', () => {
  const config = { default: 'a', clusters: [cluster('a', { TLSPin: 'cGlu' }), cluster('b')] }
  const text = renderConfig(config)
  assert.match(
    text,
    /^default = "a"\n\n\[\[cluster\]\]\n {2}Name = "a"\n {2}Key = "key-a"\n {2}TLSPin = "cGlu"\n/,
  )
  assert.deepEqual(parseConfig(text, 'f'), config)
  assert.equal(renderConfig({ default: '', clusters: [] }), '')
})

test('keys are read in any case, unknown ones dropped, and a broken file is told', () => {
  const config = parseConfig(
    'DEFAULT = "x"\n[[cluster]]\nname = "x"\ncontrollerurl = "https://c"\nother = 1\n',
    'f',
  )
  assert.deepEqual(config, {
    default: 'x',
    clusters: [{ Name: 'x', ControllerURL: 'https://c', GitURL: '', ImageURL: '' }],
  })
  assert.throws(() => parseConfig('default = ', '/home/me/.flynnrc'), /\/home\/me\/.flynnrc is no valid TOML/)
})

test('a cluster that is there already is refused, replaced by force, and the first becomes the default', () => {
  const none = { default: '', clusters: [] }
  const one = addCluster(none, cluster('a'), { force: false, makeDefault: false }, 'f')
  assert.equal(one.default, 'a')
  assert.throws(
    () => addCluster(one, cluster('a'), { force: false, makeDefault: false }, 'f'),
    /already exists/,
  )
  const other = cluster('other', { ControllerURL: 'https://controller.a.test' })
  assert.throws(() => addCluster(one, other, { force: false, makeDefault: false }, 'f'), /with the URL/)
  const forced = addCluster(one, cluster('a', { Key: 'new' }), { force: true, makeDefault: false }, 'f')
  assert.deepEqual([forced.clusters.length, forced.clusters[0]?.Key, forced.default], [1, 'new', 'a'])
})

test('long options may be shortened to a unique beginning, and bad ones are a usage error', () => {
  const spec = {
    options: { release: { type: 'string', short: 'r' }, 'no-wait': { type: 'boolean', short: 'n' } },
  } as const
  assert.equal(parse(['--rel', 'x'], spec).text('release'), 'x')
  assert.equal(parse(['-nr', 'x'], spec).flag('no-wait'), true)
  assert.throws(() => parse(['--nothing'], spec), UsageError)
  assert.throws(() => parse(['a'], { ...spec, max: 0 }), UsageError)
})

test('options may come before the action, and a value may look like an option', () => {
  const options = { type: { type: 'string', short: 't' }, number: { type: 'string', short: 'n' } } as const
  assert.deepEqual(splitAction(['-t', 'web', 'set', 'A=1'], options), {
    action: 'set',
    rest: ['-t', 'web', 'A=1'],
  })
  assert.equal(splitAction(['--', 'set'], options).action, undefined)
  assert.equal(parse(['-n', '-1'], { options }).text('number'), '-1')
  assert.equal(parse(['--num', '-1'], { options }).text('number'), '-1')
})

test('a missing value and an unknown option are complained about in words', () => {
  const options = { release: { type: 'string', short: 'r' } } as const
  assert.throws(() => parse(['-r'], { options }), /^UsageError: --release requires argument$/)
  assert.throws(() => parse(['--nothing'], { options }), /Unknown option '--nothing'/)
  assert.equal(parse(['--json'], { options }).json, true)
  assert.throws(() => parse(['--json'], { options, json: false }), UsageError)
  assert.throws(() => parse(['--plan'], { options }), UsageError)
})

test('what follows the command of run belongs to it, also options and a second --', () => {
  const spec = {
    min: 1,
    options: { detached: { type: 'boolean', short: 'd' }, release: { type: 'string', short: 'r' } },
  } as const
  assert.deepEqual(parseLeading(['-r', 'x', 'ls', '-d', '--', 'a'], spec).rest, ['ls', '-d', '--', 'a'])
  assert.deepEqual(parseLeading(['--', 'ls'], spec).rest, ['ls'])
  assert.throws(() => parseLeading(['-d'], spec), UsageError)
})

test('scale words carry counts and tags; bad ones are named', () => {
  assert.deepEqual(parseSpecs(['web=2', 'db=1,disk=ssd,fast']), {
    processes: { web: 2, db: 1 },
    tags: { db: { disk: 'ssd', fast: 'true' } },
  })
  assert.throws(() => parseSpecs(['web']), /TYPE=COUNT/)
  assert.throws(() => parseSpecs(['web=-1']), /parse count in "web=-1"/)
})

test('limits take binary multiples for bytes and decimal ones for the rest', () => {
  const limits = parseLimits(['memory=512MB', 'cpu=1k', 'temp_disk=1g', 'max_procs=50'])
  assert.deepEqual(
    Object.entries(limits).map(([name, r]) => [name, r?.limit]),
    [
      ['memory', 512 * 2 ** 20],
      ['cpu', 1000],
      ['temp_disk', 2 ** 30],
      ['max_procs', 50],
    ],
  )
  assert.throws(() => parseLimits(['memory=lots']), /invalid limit/)
  assert.throws(() => parseLimits(['colour=1']), /invalid limit/)
})

test('limits are shown with four digits and the unit that fits, and those not set with their default', () => {
  assert.equal(formatLimit('memory', 1.5 * 2 ** 30), '1.5GB')
  assert.equal(formatLimit('temp_disk', 123_456_789), '117.7MB')
  assert.equal(formatLimit('max_fd', 12_000), '12000')
  const limits = effectiveLimits({ memory: { limit: 5 } })
  assert.deepEqual([limits['memory'], limits['cpu']], [5, 1000])
})

test('a Procfile gives process types; web gets a port and a service, an earlier release keeps its own settings', () => {
  const commands = parseProcfile('# comment\nweb: node server.js\n\nworker: a && b\n')
  const types = processTypes('hello', commands, { worker: { env: { A: '1' } } })
  assert.deepEqual(types['web']?.args, ['sh', '-c', 'exec node server.js'])
  assert.equal(types['web']?.ports?.[0]?.service?.name, 'hello-web')
  assert.deepEqual(types['worker'], { env: { A: '1' }, args: ['sh', '-c', 'a && b'] })
  assert.throws(() => parseProcfile('Web server'), /Procfile line 1/)
})

test('a release file changes what it names and leaves the rest', () => {
  const before = { env: { A: '1', B: '2' }, processes: { web: { args: ['x'], omni: true } } }
  const merged = mergeRelease(before, {
    env: { B: '3' },
    processes: { web: { args: [] }, new: { args: ['y'] } },
  })
  assert.deepEqual(merged.env, { A: '1', B: '3' })
  assert.deepEqual(merged.processes?.['web']?.args, ['x'])
  assert.deepEqual(merged.processes?.['new']?.args, ['y'])
})

test('times have six digits, and names below localhost are this machine', () => {
  assert.equal(sixDigits('2026-01-02T03:04:05.123456789Z'), '2026-01-02T03:04:05.123456Z')
  assert.equal(sixDigits('2026-01-02T03:04:05Z'), '2026-01-02T03:04:05.000000Z')
  assert.equal(dialAddress('https://controller.flynn.localhost'), '127.0.0.1')
  assert.equal(dialAddress('https://controller.example.com'), undefined)
})
