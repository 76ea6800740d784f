// What can go wrong while a cluster is brought up, and what its operator does about it.
import { errorTable } from '../pkg/errors/errors.ts'

export const errors = errorTable({
  MANIFEST_UNREADABLE: {
    status: 400,
    message: 'the manifest {path} cannot be read: {reason}',
    remedy: 'reinstall, or name another manifest: flynn-host bootstrap <manifest>',
  },
  MANIFEST_SYNTAX: {
    status: 400,
    message: 'the manifest is no valid JSON: {reason}',
    remedy: 'correct it at that place and run the command again',
  },
  MANIFEST_INVALID: {
    status: 400,
    message: 'manifest step {step}: {reason}',
    remedy: 'correct the step and run the command again',
  },
  UNKNOWN_ACTION: {
    status: 400,
    message: 'bootstrap: unknown action "{action}"',
    remedy: 'use one of: {known}',
  },
  UNKNOWN_STEP: {
    status: 400,
    message: 'no step "{step}" in the manifest',
    remedy: 'flynn-host bootstrap --steps takes step ids of the manifest',
  },
  UNKNOWN_IMAGE: {
    status: 400,
    message: 'the manifest wants the image "{image}", which is not installed',
    remedy: 'build the images and install them: ./install-flynn',
  },
  TWO_HOSTS: {
    status: 400,
    message: 'a cluster of 2 hosts cannot survive the loss of either: consensus needs a majority',
    remedy: 'use --min-hosts 1, or 3 and more',
  },
  HOSTS_OFFLINE: {
    status: 503,
    message: '{online} of {wanted} hosts are online after {seconds} s{unreachable}',
    remedy:
      'start flynn-host on them (systemctl start flynn-host, or flynn-host daemon) and run the command again',
  },
  MISSING_ENV: {
    status: 400,
    message: 'Missing required environment variable(s): {names}',
    remedy: 'set them, e.g. CLUSTER_DOMAIN=example.com flynn-host bootstrap',
  },
  PORTS_IN_USE: {
    status: 409,
    message: 'ports that Flynn needs are in use: {ports}',
    remedy: 'stop the programs that listen there (ss -ltnp shows them) and run the command again',
  },
  STEP_NOT_RUN: {
    status: 400,
    message: 'step {step} needs what step {needs} makes, which has not run',
    remedy: 'run the bootstrap without --steps',
  },
  JOB_FAILED: {
    status: 500,
    message: 'the {app} {type} job did not start on {host}: {reason}',
    remedy: 'see its output: flynn-host log {job}',
  },
  PROVIDER_FAILED: {
    status: 500,
    message: 'the provider {url} gave no resource: {reason}',
    remedy: 'run the command again; flynn-host ps shows whether its job is up',
  },
  WAIT_TIMEOUT: {
    status: 503,
    message: '{what} was not ready after {seconds} s: {reason}',
    remedy: 'flynn-host ps -a and flynn-host log JOB show why; then run the command again, it continues here',
  },
  UNHEALTHY: {
    status: 503,
    message: 'these services are not healthy after {seconds} s: {services}',
    remedy: 'flynn-host ps -a and flynn-host log JOB show why; then run the command again',
  },
  CERTIFICATE_INVALID: {
    status: 400,
    message: 'TLS_CERT and TLS_KEY do not belong together: {reason}',
    remedy: 'give a PEM certificate with its own key, or none of TLS_CA, TLS_CERT, TLS_KEY',
  },
  ENCODING_UNKNOWN: {
    status: 400,
    message: 'encoding {encoding} is unknown',
    remedy: 'use hex, base64, base64safe or uuid',
  },
  OTHER_MANIFEST: {
    status: 409,
    message: 'a bootstrap of another manifest, domain or host list began here',
    remedy: 'finish that one, or clear the machine first: ./install-flynn --remove',
  },
  FLAG_INVALID: {
    status: 400,
    message: '{flag} must be a positive whole number, not "{value}"',
    remedy: 'see flynn-host bootstrap --help',
  },
  INTERRUPTED: { status: 499, message: 'interrupted', remedy: 'run the command again, it continues here' },
})
