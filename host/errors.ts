// Every error that flynn-host answers or throws: code on the wire, status, text, and what to do about it. Statuses of
// the awkward cases are the original's (contract host.md 2.1), the texts are clear. The engines throw rows of it too.
import { errorTable, FlynnError } from '../pkg/errors/errors.ts'

export const hostErrors = errorTable({
  // Jobs over HTTP.
  UNKNOWN_JOB: {
    code: 'object_not_found',
    status: 404,
    message: 'host: unknown job',
    remedy: 'list the jobs of this host with GET /host/jobs or flynn-host ps -a',
  },
  JOB_NOT_ACTIVE: {
    code: 'unknown_error',
    status: 500,
    message: 'host: job {id} is {state}',
    remedy: 'only a starting or running job can be stopped, signalled or deregistered',
  },
  JOB_EXISTS: { code: 'conflict', status: 409, message: 'job already exists', remedy: 'use a new job id' },
  PROCESS_ACTIVE: {
    status: 409,
    message: 'host: job {job} of the same app and process type is active here',
    remedy: 'leave out unless_active=true to have another one beside it',
  },
  MOUNTSPECS: {
    code: 'validation_error',
    status: 400,
    message: 'mountspecs must be set',
    remedy: 'name at least one image layer',
  },
  INVALID_JOB: { code: 'validation_error', status: 400, message: '{field} {text}' },
  SIGNAL: { code: 'validation_error', status: 400, message: 'sig must be an integer' },
  GATE_FULL: {
    code: 'ratelimited',
    status: 429,
    message: 'maximum concurrent AddJob calls running, try again later',
    retry: true,
  },
  VOLUME_BOUND: {
    code: 'unknown_error',
    status: 500,
    message: 'host: volume {volume} is in use by job {job}',
    remedy: 'stop that job first; a volume serves one job at a time',
  },
  UNKNOWN_SINK: {
    code: 'object_not_found',
    status: 404,
    message: "sink with that id couldn't be found",
    remedy: 'list the sinks of this host with GET /sinks',
  },
  SINK_KIND: {
    code: 'validation_error',
    status: 400,
    message: 'a sink of kind {kind} is made by the host itself',
    remedy: 'use the kind syslog',
  },
  SINK_CONFIG: { code: 'validation_error', status: 400, message: 'sink: {text}' },
  SINKS_FULL: {
    code: 'conflict',
    status: 409,
    message: 'this host has {max} sinks already',
    remedy: 'remove one that is no longer needed',
  },
  SHUTTING_DOWN: {
    code: 'service_unavailable',
    status: 503,
    message: 'flynn-host is shutting down',
    retry: true,
  },

  // Why a start failed; these end up as the job's `error`.
  INVALID_PARTITION: { status: 400, message: 'host: invalid job partition "{partition}"' },
  INVALID_PROFILE: { status: 400, message: 'host: invalid job profile "{profile}"' },
  PROFILE_ABSENT: { status: 400, message: 'host: this machine has no devices for profile "{profile}"' },
  INVALID_MOUNTSPEC: { status: 400, message: 'host: unsupported mountspec type "{type}" of layer {id}' },
  INVALID_MOUNT_TARGET: { status: 400, message: 'host: invalid empty mount target' },
  MISSING_VOLUME: {
    status: 400,
    message: 'host: volume {volume} does not exist on this host',
    remedy: 'create it first with POST /storage/providers/default/volumes',
  },
  SNAPSHOT_BOUND: {
    status: 400,
    message: 'host: volume {volume} is a snapshot, a job cannot have it mounted',
    remedy: 'make a volume of it with PUT /storage/volumes/{volume}/clone',
  },
  NO_COMMAND: { status: 400, message: 'host: the job has no command', remedy: 'set config.args' },
  NO_PROGRAM: { status: 400, message: 'host: "{program}" is not an executable file in the image' },
  NOT_IN_PATH: { status: 400, message: 'host: "{program}": executable file not found in $PATH' },
  DISCOVERD_ABSENT: {
    status: 503,
    message: 'host: discoverd is not up after {seconds} s',
    remedy: 'start the discoverd job of this host, see flynn-host ps -a',
  },
  HOST_RESTARTED: { status: 500, message: 'host restarted' },
  STOPPED_EARLY: { status: 500, message: 'host: job was stopped before it started' },

  // Engines.
  CONTAINER_LOST: {
    status: 500,
    message: 'host: the container of job {id} is gone and left no exit status',
    remedy: 'it was removed, or its containerd shim was killed; the scheduler starts a new job',
  },

  // Ports, network, volumes, attach.
  PORTS_TAKEN: {
    code: 'conflict',
    status: 409,
    message: 'Conflicting resources found',
    remedy: 'end what listens on these ports',
  },
  NETWORK_IN_USE: {
    code: 'conflict',
    status: 409,
    message: 'host: the network is {current} and jobs use it, it cannot become {wanted}',
    remedy: 'stop the jobs of this host first',
  },
  UNKNOWN_VOLUME: {
    code: 'object_not_found',
    status: 404,
    message: 'volume {id} not found',
    remedy: 'list volumes with flynn-host volume list',
  },
  UNKNOWN_PROVIDER: {
    code: 'object_not_found',
    status: 404,
    message: 'volume provider {id} not found',
    remedy: 'use the provider "default"',
  },
  PROVIDER_EXISTS: { code: 'object_exists', status: 409, message: 'volume provider {id} already exists' },
  PROVIDER_KIND: {
    code: 'validation_error',
    status: 400,
    message: 'kind must be "zfs" (got "{kind}")',
    remedy: 'hosts have one provider, "default", of kind zfs',
  },
  VOLUME_TYPE: {
    code: 'validation_error',
    status: 400,
    message: 'type must be "data" (got "{type}")',
    remedy: 'image layers and scratch disks are not volumes here',
  },
  VOLUME_EXISTS: { code: 'object_exists', status: 409, message: 'volume {id} already exists' },
  VOLUME_FENCED: {
    code: 'conflict',
    status: 409,
    message: 'volume {volume} cannot be used here: it is {how}',
    remedy: 'see how far the drain is with: flynn-host drain HOST, or end it with --cancel',
  },
  VOLUME_COMMITTED: {
    code: 'volume_committed',
    status: 409,
    message: 'volume {volume} has moved to host {target} and does not come back by itself',
    remedy: 'start host {target}',
  },
  VOLUME_NOT_RETIRED: {
    code: 'conflict',
    status: 409,
    message: 'volume {volume} is not on its way to host {target}',
  },
  VOLUME_NOT_INCOMING: {
    code: 'conflict',
    status: 409,
    message: 'volume {volume} is not being filled from another host',
    remedy: 'create the volume with incoming_from',
  },
  VOLUME_INCOMPLETE: {
    code: 'conflict',
    status: 409,
    message: 'volume {volume} has not got all of its data from host {source} yet',
  },
  VOLUME_NOT_FENCED: { code: 'conflict', status: 409, message: 'volume {volume} is no {kind} copy' },
  VOLUME_PULLING: {
    code: 'conflict',
    status: 409,
    message: 'volume {volume} is receiving a snapshot already',
    retry: true,
  },
  VOLUME_HAS_SNAPSHOTS: {
    code: 'volume_has_snapshots',
    status: 409,
    message: 'volume {volume} has snapshots, which do not move with it: {snapshots}',
    remedy: 'delete them with flynn-host volume delete, or clone what you want to keep',
  },
  NOT_A_SNAPSHOT: {
    code: 'validation_error',
    status: 400,
    message: 'volume {volume} is not a snapshot',
    remedy: 'make one with PUT /storage/volumes/{volume}/snapshot',
  },
  STREAM_TYPE: {
    code: 'validation_error',
    status: 400,
    message: 'snapshots are sent as {type} only',
    remedy: 'ask with the header Accept: {type}',
  },
  HAVES: {
    code: 'validation_error',
    status: 400,
    message: 'the snapshots that you have must be a list of {"snap_id": "..."}',
  },
  TRANSFERS_FULL: {
    code: 'ratelimited',
    status: 429,
    message: 'this host sends or receives {max} volumes already',
    retry: true,
  },
  UNKNOWN_PEER: {
    code: 'validation_error',
    status: 400,
    message: 'host {id} is not known here',
    remedy: 'see the hosts with: flynn-host list',
  },
  UNSUPPORTED_CHECK: { status: 400, message: 'unsupported check type: {type}' },
})

/** True for the answer to stop, signal or deregister of a job that has ended already or was never known. */
export function isJobGone(e: unknown): boolean {
  return (
    e instanceof FlynnError &&
    (e.code === 'object_not_found' ||
      (e.code === 'unknown_error' &&
        (e.detail as { reason?: string } | undefined)?.reason === 'job_not_active'))
  )
}
