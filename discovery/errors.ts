// What the token service refuses, and what its clients say when it does not answer.
import { errorTable } from '../pkg/errors/errors.ts'

export const errors = errorTable({
  UNKNOWN_TOKEN: {
    code: 'object_not_found',
    status: 404,
    message: 'no such discovery token',
    remedy:
      'tokens end when nobody has used them for {days} days; make a new one with: flynn-host init --init-discovery',
  },
  SYNTAX: {
    code: 'syntax_error',
    status: 400,
    message: 'the body is no valid JSON',
    remedy: 'send {"data":{"name":"host1","url":"http://192.0.2.10:1113"}}',
  },
  INVALID: { code: 'validation_error', status: 400, message: '{field} {text}' },
  INSTANCES_FULL: {
    code: 'conflict',
    status: 409,
    message: 'this token has {max} hosts already',
    remedy: 'join further hosts with: flynn-host init --peer-ips=IP',
  },
  TOKENS_FULL: {
    code: 'service_unavailable',
    status: 503,
    message: 'this server has {max} tokens already',
    remedy: 'try again when old ones have ended, or run a server of your own: flynn-host discovery-server',
  },
  TOO_FAST: {
    code: 'ratelimited',
    status: 429,
    message: 'more than {max} new tokens in an hour from {address}',
    remedy: 'wait, or use a token that was made already',
  },
  BAD_FLAG: {
    status: 400,
    message: '{flag} {text}',
    remedy: 'see flynn-host help discovery-server',
  },
  BAD_TOKEN: {
    status: 400,
    message: 'the discovery token "{token}" is not usable: {text}',
    remedy: 'give the whole URL that flynn-host init --init-discovery printed',
  },
  NO_SERVER: {
    status: 400,
    message: 'no token server is named',
    remedy: 'set DISCOVERY_SERVER to the URL of one; run one with: flynn-host discovery-server',
  },
  UNREACHABLE: {
    status: 503,
    message: 'the token server {server} gives no usable answer: {reason}',
    remedy: 'check that it runs there, or name hosts instead: --peer-ips=IP,IP',
    retry: true,
  },
})
