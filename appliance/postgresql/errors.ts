// Error table of the postgres appliance: what its start can fail with, and what the provider API answers (contract
// system-apps.md 6).
import { errorTable } from '../../pkg/errors/errors.ts'

export const errors = errorTable({
  MISSING_ENV: {
    status: 500,
    message: 'environment variable {name} is not set',
    remedy: 'the bootstrap manifest sets it in the release of app postgres',
  },
  NO_BINARIES: {
    status: 500,
    message: 'no PostgreSQL {version} binaries below {dir}',
    remedy: 'run the image that the data was made with, then dump and restore into the new one',
  },
  NOT_MANUAL: {
    status: 500,
    message: 'service {service} does not let its leader be set',
    remedy:
      'it was created with leader type "oldest" by somebody else; remove it, it is then made anew as "manual"',
  },
  INVALID_ID: { code: 'validation_error', status: 400, message: 'id is invalid' },
  DATABASE_UNAVAILABLE: {
    code: 'service_unavailable',
    status: 503,
    message: 'the database server does not answer: {reason}',
    remedy: 'it may be starting or failing over; repeat the request in a few seconds',
    retry: true,
  },
})
