// Everything that can go wrong while a layer is packed.
import { errorTable } from '../errors/errors.ts'

export const errors = errorTable({
  TOOL_MISSING: {
    code: 'squashfs_tools_missing',
    status: 500,
    message: '{tool} is not installed, and layers cannot be packed without it',
    remedy: 'install squashfs-tools 4.5 or newer (on Debian and Ubuntu: apt-get install squashfs-tools)',
  },
  TOOL_FAILED: {
    code: 'pack_failed',
    status: 500,
    message: '{tool} could not pack {dir}: {reason}',
  },
  NOT_A_DIRECTORY: {
    code: 'not_a_directory',
    status: 400,
    message: '{dir} is not a directory',
    remedy: 'name the directory that holds the files of the layer',
  },
  TOO_MANY_FILES: {
    code: 'too_many_files',
    status: 400,
    message: '{dir} holds more than {max} files',
    remedy: 'leave out what the app does not need (.gitignore and .flynnignore are honoured)',
  },
  FILE_CHANGED: {
    code: 'file_changed',
    status: 409,
    message: '{path} changed while it was packed',
    remedy: 'try again when nothing writes to the directory',
    retry: true,
  },
})
