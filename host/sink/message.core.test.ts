import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatMessage, type LogRecord } from '../log/record.core.ts'
import { encodeRecord, parseTarget, type SyslogTarget, wordsOf } from './message.core.ts'
import { parseTemplate, type TemplateJob } from './template.core.ts'
import type { SinkConfig } from './types.ts'

const app = '11111111-2222-3333-4444-555555555555'
const job: TemplateJob = {
  ID: 'h1-j',
  Partition: 'user',
  Metadata: { 'flynn-controller.app_name': 'shop', 'a.b': 'x' },
  Config: { host_network: true },
}

function record(line: string): LogRecord {
  const fields = { micros: 1_000_000, seq: 7, procId: 'web.h1-j', stream: 'stdout' as const }
  const bytes = new TextEncoder().encode(line)
  return { ...fields, line: bytes, message: formatMessage({ ...fields, hostId: 'h1', app, line: bytes }) }
}

function target(config: Partial<SinkConfig> = {}): SyslogTarget {
  const parsed = parseTarget({ url: 'syslog://logs.example.test', ...config })
  assert.ok(typeof parsed !== 'string', String(parsed))
  return parsed
}

function sent(config: Partial<SinkConfig>, line = 'hello', known: TemplateJob | undefined = job): string {
  const to = target(config)
  return new TextDecoder().decode(encodeRecord(to, record(line), wordsOf(to, known)))
}

const head = '<190>1 1970-01-01T00:00:01.000000Z h1'

test('messages name the app, carry no structured data and are counted, unless asked otherwise', () => {
  const body = `${head} shop web.h1-j ID1 - hello`
  assert.equal(sent({}), `${body.length} ${body}`)
  assert.equal(sent({ format: 'newline' }), `${body}\n`)
  assert.equal(sent({ format: 'newline', use_ids: true }), `${head} ${app} web.h1-j ID1 - hello\n`)
  const structured = sent({ format: 'newline', structured_data: true })
  assert.equal(structured, `${head} shop web.h1-j ID1 [flynn seq="7"] hello\n`)
})

test('the prefix stands in the message, or before the whole line', () => {
  const template = '{{index .Metadata "a.b"}}@{{.ID}}'
  assert.equal(sent({ format: 'newline', template }), `${head} shop web.h1-j ID1 - x@h1-j hello\n`)
  assert.equal(sent({ format: 'prefixed_newline', template }), `x@h1-j ${head} shop web.h1-j ID1 - hello\n`)
  assert.equal(sent({ format: 'prefixed_newline' }), ` ${head} shop web.h1-j ID1 - hello\n`)
})

test('an unknown job has no name and no prefix, and an empty line stays a message', () => {
  const to = target({ format: 'newline', template: '{{.ID}}' })
  const text = new TextDecoder().decode(encodeRecord(to, record(''), wordsOf(to, undefined)))
  assert.equal(text, `${head} - web.h1-j ID1 - \n`)
})

test('a prefix cannot end the line early', () => {
  const sly = { ...job, Metadata: { 'a.b': 'x\ny' } }
  assert.equal(
    sent({ format: 'newline', template: '{{index .Metadata "a.b"}}' }, 'z', sly).split('\n').length,
    2,
  )
})

test('addresses with and without a port are understood, others are refused', () => {
  assert.deepEqual([target().host, target().port, target().tls], ['logs.example.test', 514, false])
  const secure = target({ url: 'syslog+tls://[fd00::1]:6514/' })
  assert.deepEqual([secure.host, secure.port, secure.tls], ['fd00::1', 6514, true])
  for (const url of [
    '',
    'http://x',
    'syslog://',
    'syslog://x:0',
    'syslog://x:99999',
    'syslog://u@x',
    'syslog://x/y',
  ])
    assert.equal(typeof parseTarget({ url }), 'string', url)
})

test('templates hold text, paths and lookups; others are refused', () => {
  assert.equal(parseTemplate('a {{ .Config.HostNetwork }} {{.Partition}}')?.(job), 'a true user')
  assert.equal(parseTemplate('{{index .Metadata "none"}}{{.None.At.All}}')?.(job), '')
  assert.equal(parseTemplate('{{index .Metadata "__proto__"}}')?.(job), '')
  for (const text of ['{{range .X}}', '{{printf "x"}}', '{{', '{{.A}', 'x'.repeat(20_000)])
    assert.equal(parseTemplate(text), undefined, text.slice(0, 20))
})
