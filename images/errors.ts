// Everything that can go wrong while images are built.
import { errorTable } from '../pkg/errors/errors.ts'

export const errors = errorTable({
  UNKNOWN_NAME: {
    status: 400,
    message: 'there is no image or layer called {name}',
    remedy: 'node images/main.ts --list names them all',
  },
  ENTRY_MISSING: {
    status: 500,
    message: '{what} cannot be built: {missing} does not exist',
    remedy: 'add the file, or take the row out of images/manifest.ts',
  },
  PACKAGES_UNRESOLVED: {
    status: 500,
    message: 'apt cannot find the packages of {layer}: {reason}',
    remedy:
      'check that apt-get update works on this machine; the images are built from its own package sources',
  },
  DOWNLOAD_FAILED: {
    status: 500,
    message: 'apt cannot download the packages of {layer}: {reason}',
    remedy: 'run apt-get update, then build again',
  },
  DISTRIBUTION_FAILED: {
    status: 500,
    message: 'mmdebstrap could not set up {layer}: {reason}',
    remedy: 'the whole output is in {log}',
  },
  TOOL_MISSING: {
    status: 500,
    message: '{tool} is not installed on this machine',
    remedy: 'apt-get install {package}',
  },
  NOT_ROOT: {
    status: 500,
    message: 'layers hold files of several owners, so only root can build them',
    remedy: 'run it again with sudo',
  },
  BUNDLE_FAILED: {
    status: 500,
    message: 'bundling {entry} failed: {reason}',
  },
  SPLIT_USR: {
    status: 500,
    message: 'layer {layer} holds a directory /{dir}, which would hide the one of the layers below',
    remedy: 'put the files under /usr/{dir}',
  },
  NPM_MISMATCH: {
    status: 500,
    message: 'the npm package that was downloaded is not the one that was asked for',
    remedy: 'check the npm registry this machine uses, or change version and integrity in images/steps.ts',
  },
  BUILDER_BUSY: {
    status: 409,
    message: 'another build (process {pid}) works in {dir}',
    remedy: 'wait for its end',
  },
})
