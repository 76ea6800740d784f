// Error table of the controller (contract controller.md 1.7). A missing object is not in it: that is a plain 404 with
// an empty body, which clients tell apart from every JSON error. `retry` is true only where nothing happened yet.
// What fails behind the controller (a provider, a host, the log aggregator) is 502 or 503 and named: a 500 is a fault of
// the controller or its database. Clients of the original read the JSON of every status alike.
import { errorTable, isFlynnError } from '../pkg/errors/errors.ts'

export const errors = errorTable({
  VALIDATION_ERROR: { status: 400, message: '{field} {text}', remedy: '{remedy}' },
  INVALID: { code: 'validation_error', status: 400, message: '{text}', remedy: '{remedy}' },
  NO_AUTH_KEY: {
    code: 'missing_env',
    status: 500,
    message: 'environment variable AUTH_KEY is not set',
    remedy: 'set AUTH_KEY in the release of the app controller',
  },
  TOKEN_KEY: {
    code: 'invalid_env',
    status: 500,
    message: 'environment variable ACCESS_TOKEN_KEY is no public key',
    remedy: 'set it to the base64url of a DER public key (SubjectPublicKeyInfo), or leave it out',
  },
  TOKEN_VALIDITY: {
    code: 'invalid_env',
    status: 500,
    message: 'environment variable ACCESS_TOKEN_MAX_VALIDITY is no number of seconds',
    remedy: 'set it to a whole number of seconds, or leave it out',
  },
  OBJECT_EXISTS: {
    status: 409,
    message: '{kind} "{name}" already exists',
    remedy: 'choose another {field} or use the existing one',
  },
  CRITICAL_APP: {
    code: 'validation_error',
    status: 400,
    message: '{app} is critical to the cluster: its last {type} process cannot be stopped',
    remedy: 'deploy another release instead; every process type of the app must stay at one or more',
  },
  CRITICAL_APP_DELETION: {
    code: 'validation_error',
    status: 400,
    message: '{app} is critical to the cluster and cannot be deleted',
    remedy: 'take the cluster down as a whole instead',
  },
  TOO_MANY_SINKS: {
    code: 'conflict',
    status: 409,
    message: 'there are {max} log sinks already',
    remedy: 'remove one that is no longer needed: flynn cluster log-sink remove',
  },
  DEPLOYMENT_OVER: {
    code: 'validation_error',
    status: 400,
    message: 'the deployment is over: it is {status}',
    remedy: 'deploy the release that you want instead',
  },
  ACME_OFF: {
    code: 'validation_error',
    status: 400,
    message:
      "ACME/Let's Encrypt is not enabled. Run 'flynn-host acme configure' and 'flynn-host acme enable' first.",
    remedy: 'flynn-host acme configure --email=you@example.com --agree-tos, then flynn-host acme enable',
  },
  WRONG_DOMAIN: {
    code: 'validation_error',
    status: 400,
    message: "Can't migrate from {given}: the cluster's domain is {current}",
    remedy: 'send the domain of the cluster as old_domain',
  },
  MIGRATION_RUNNING: {
    code: 'conflict',
    status: 409,
    message: 'the domain is being migrated to {domain} already',
    remedy: 'wait for its end: a domain_migration event with finished_at',
  },
  TOO_DEEP: {
    code: 'validation_error',
    status: 400,
    message: 'the body has more than {max} levels',
    remedy: 'send a flatter document',
  },
  TOO_MANY_REQUESTS: {
    code: 'ratelimited',
    status: 429,
    message: 'this controller answers {max} requests already',
    remedy: 'try again in a moment',
    retry: true,
  },
  DUPLICATE_ROUTE: {
    code: 'conflict',
    status: 409,
    message: 'Duplicate route',
    remedy: 'remove the other route first or choose another {field}',
  },
  RESERVED_PORT: {
    code: 'conflict',
    status: 409,
    message: 'Port reserved for HTTP/HTTPS traffic',
    remedy: 'add an http route, or leave the port out to get a free one',
  },
  NO_FREE_PORT: {
    code: 'conflict',
    status: 409,
    message: 'every port from {min} to {max} is taken',
    remedy: 'remove a tcp route that is no longer needed, or name a port outside the range',
  },
  PROVIDER_FAILED: {
    code: 'unknown_error',
    status: 502,
    message: 'provider {name} could not {action}: {text}',
    remedy: 'look at the log of the app behind {url}',
  },
  NO_HOST: {
    code: 'unknown_error',
    status: 503,
    message: 'no host can run the job: {text}',
    remedy: 'see that a host is up and not draining: flynn-host list',
  },
  HOST_FAILED: {
    code: 'unknown_error',
    status: 502,
    message: 'host {host} could not {action}: {text}',
    remedy: 'see flynn-host ps and the log of that host',
  },
  PROGRAM_MISSING: {
    code: 'validation_error',
    status: 400,
    message: '"{program}" is no program of the image: executable file not found in $PATH',
    remedy: 'flynn run ls /app /usr/bin shows what there is',
  },
  LOG_UNAVAILABLE: {
    code: 'unknown_error',
    status: 502,
    message: 'the log aggregator does not answer: {text}',
    remedy: 'see that the app logaggregator is up: flynn -a logaggregator ps',
  },
  LAYER_ID: {
    code: 'validation_error',
    status: 400,
    message: 'id {id} is no layer id',
    remedy: 'use the hex SHA-512/256 of the layer',
  },
  LAYER_HASH: {
    code: 'validation_error',
    status: 400,
    message: 'the layer {id} arrived as {found}; nothing was kept',
    remedy: 'send it again',
  },
  LAYER_TOO_BIG: {
    code: 'request_body_too_big',
    status: 400,
    message: 'a layer may have {max} bytes',
    remedy: 'leave out what the app does not need: .flynnignore',
  },
  DATABASE_UNAVAILABLE: {
    code: 'unknown_error',
    status: 500,
    message: 'Something went wrong',
    remedy: 'the database did not answer; try again',
    retry: true,
  },
})

/** True when the controller said that the thing asked for does not exist. */
export function isNotFound(e: unknown): boolean {
  return isFlynnError(e) && e.status === 404
}
