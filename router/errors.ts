// What can go wrong in a router, and what its operator does about it.
import { errorTable } from '../pkg/errors/errors.ts'

export const errors = errorTable({
  COOKIE_KEY_MISSING: {
    status: 500,
    message: 'Missing random 32 byte base64-encoded COOKIE_KEY',
    remedy: 'set COOKIE_KEY in the router release: openssl rand -base64 32',
  },
  COOKIE_KEY_SIZE: {
    status: 500,
    message: 'decoded {bytes} bytes from COOKIE_KEY, expected 32',
    remedy: 'set COOKIE_KEY to the base64 of exactly 32 bytes: openssl rand -base64 32',
  },
  PORT_INVALID: {
    status: 500,
    message: '{name} is no port: "{value}"',
    remedy: 'give a number from 1 to 65535, or 0 for none',
  },
  HTTPS_NEEDED: {
    status: 500,
    message: 'Cannot disable HTTPS access (DEFAULT_HTTPS_PORT=0)',
    remedy: 'give another port, or leave DEFAULT_HTTPS_PORT out',
  },
  COMMAND_REFUSED: { status: 500, message: 'HAProxy refused "{command}": {answer}' },
  RESTARTED: { status: 500, message: 'HAProxy had been restarted' },
  CERTIFICATE_TOO_LONG: {
    status: 500,
    message: 'the certificate chain and its key are {bytes} bytes long, over {max}',
    remedy: 'leave out certificates that the chain does not need, such as the root',
  },
  RELOAD_FAILED: {
    status: 500,
    message: 'HAProxy did not take its new configuration within {ms} ms',
    remedy: 'its log says why: flynn -a router log',
  },
  EVENT_TYPES: {
    code: 'validation_error',
    status: 400,
    message: 'types has an unknown event "{type}"',
    remedy: 'use set, remove, backend-up, backend-down, backend-drained',
  },
})
