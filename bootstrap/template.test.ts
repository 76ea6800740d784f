import assert from 'node:assert/strict'
import { test } from 'node:test'
import { renderEnv, renderTemplate, type TemplateContext, TemplateError } from './template.core.ts'

const context: TemplateContext = {
  env: { CLUSTER_DOMAIN: 'dev.test' },
  stepData: { 'pg-password': { data: 'secret' }, cert: { ca_cert: 'CA', private_key: 'KEY' } },
  singleton: true,
  sortedHostIps: ['10.0.0.1', '10.0.0.2'],
  clusterUrl: '',
  minHosts: 1,
  md5: t => `md5(${t})`,
}

test('environment names and step data are put in, fields in the capitals of the original', () => {
  assert.equal(renderTemplate('controller.{{ getenv "CLUSTER_DOMAIN" }}', context), 'controller.dev.test')
  assert.equal(renderTemplate('{{ (index .StepData "pg-password").Data }}', context), 'secret')
  assert.equal(
    renderTemplate('{{ (index .StepData "cert").CACert }}{{ (index .StepData "cert").PrivateKey }}', context),
    'CAKEY',
  )
})

test('a range over the host addresses makes the peer list with its trailing comma', () => {
  const peers = renderTemplate('{{ range $ip := .SortedHostIPs }}{{ $ip }}:1111,{{ end }}', context)
  assert.equal(peers, '10.0.0.1:1111,10.0.0.2:1111,')
})

test('names whose value comes out empty are left out of an environment', () => {
  assert.deepEqual(renderEnv({ A: '{{ getenv "NOT_SET" }}', B: '{{ .Singleton }}' }, context), { B: 'true' })
})

test('an expression outside the supported part is an error that quotes it', () => {
  assert.throws(
    () => renderTemplate('{{ printf "%d" 1 }}', context),
    (e: unknown) => e instanceof TemplateError && e.expression.startsWith('printf'),
  )
  assert.throws(() => renderTemplate('{{ (index .StepData "later").Data }}', context), /no step "later"/)
})
