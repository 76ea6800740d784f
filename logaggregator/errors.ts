// Error table of the log aggregator (contract system-apps.md 1.3).
import { errorTable } from '../pkg/errors/errors.ts'

export const errors = errorTable({
  BAD_LINES: {
    code: 'validation_error',
    status: 400,
    message: 'lines lines must be an integer between 0 and {max}',
  },
  TOO_MANY_READERS: {
    code: 'service_unavailable',
    status: 503,
    message: 'there are {max} readers already',
    remedy: 'close a `flynn log -f` that is no longer needed',
    retry: true,
  },
})
