// Error table of the blobstore. On the wire its errors are plain text (contract blobstore.md 1): 404 `NotFound`, and
// `Internal Server Error` for the rest, whose reason is logged and, our addition, named in the header `Blobstore-Error`.
import { errorTable } from '../pkg/errors/errors.ts'

export const errors = errorTable({
  NOT_FOUND: { status: 404, message: 'no object is named {name}' },
  BAD_NAME: { status: 400, message: 'a name is at most {max} bytes of UTF-8 without NUL' },
  TOO_BIG: { status: 413, message: 'an object is at most {max} bytes' },
  BAD_OFFSET: { status: 500, message: 'the offset "{offset}" is not a number of bytes' },
  WRONG_OFFSET: { status: 500, message: 'the offset {offset} does not match the size {size} of {name}' },
  TARGET_EXISTS: {
    status: 500,
    message: '{name} exists already',
    remedy: 'delete it before copying onto it',
  },
  FOREIGN_BACKEND: {
    status: 500,
    message: '{name} is kept by backend "{backend}", which is not configured',
    remedy: 'set the environment variables of that backend',
  },
  UNAVAILABLE: { status: 503, message: 'the database does not answer: {reason}', retry: true },
  UNKNOWN_DEFAULT_BACKEND: { status: 500, message: 'error: unknown default backend "{name}"' },
  UNSUPPORTED_BACKEND: {
    status: 500,
    message: 'blobstore: {name}: only the backend "postgres" is available in this version',
    remedy: 'remove the variable',
  },
})
