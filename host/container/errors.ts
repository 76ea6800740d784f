// Errors of the engines (containers, layers, volumes, network): what failed, and what a person can do about it. The
// rows that end up as a job's `error` name the layer, volume or path they are about.
import { errorTable } from '../../pkg/errors/errors.ts'

export const engineErrors = errorTable({
  RUNTIME_UNAVAILABLE: {
    code: 'service_unavailable',
    status: 503,
    message: 'host: containerd does not answer on {socket}',
    remedy: 'it is started again by itself; see its log {log}',
    retry: true,
  },
  RUNTIME_MISSING: {
    status: 500,
    message: 'host: the program {program} cannot be run',
    remedy: 'install the packages containerd and runc',
  },
  RUNTIME_CLOSED: {
    code: 'service_unavailable',
    status: 503,
    message: 'host: the container runtime is closed',
  },
  CONTAINER_UNKNOWN: { code: 'object_not_found', status: 404, message: 'host: no container {id}' },
  CONTAINER_ID: { code: 'validation_error', status: 400, message: 'host: bad container id "{id}"' },
  CONTAINER_CREATE: { status: 500, message: 'host: container {id} could not be created: {reason}' },
  CONTAINER_START: { status: 500, message: 'host: container {id} could not be started: {reason}' },
  CONTAINER_REMOVE: {
    status: 500,
    message: 'host: container {id} could not be removed: {reason}',
    retry: true,
  },
  ROOTFS: { status: 500, message: 'host: the writable root of {id} could not be made: {reason}' },

  LAYER_INVALID: {
    status: 400,
    message: 'host: layer {id} is not valid: {reason}',
    remedy: 'the image manifest must give a size and at least one of sha256, sha512, sha512_256',
  },
  LAYER_MISSING: {
    status: 400,
    message: 'host: layer {id} is not on this host and has no URL',
    remedy: 'install the image, or give the artifact a layer_url_template',
  },
  LAYER_FETCH: { status: 502, message: 'host: layer {id} could not be fetched from {url}: {reason}' },
  LAYER_SIZE: {
    status: 400,
    message: 'host: layer {id} has {actual} bytes and should have {wanted}; nothing of it was kept',
    remedy: 'build or upload the layer again',
  },
  LAYER_HASH: {
    status: 400,
    message: 'host: layer {id} does not match its {algorithm} hash; nothing of it was kept',
    remedy: 'build or upload the layer again',
  },
  LAYER_MOUNT: { status: 500, message: 'host: layer {id} could not be mounted: {reason}' },

  POOL: {
    status: 500,
    message: 'host: the ZFS pool {pool} cannot be used: {reason}',
    remedy: 'see zpool status and zpool import; an existing pool file is never overwritten',
  },
  POOL_BUSY: {
    status: 409,
    message: 'host: the ZFS pool {pool} cannot be taken out of use: {reason}',
    remedy: 'end what uses its volumes, or restart this machine, and try again',
  },
  POOL_SPACE: {
    status: 500,
    message: 'host: {dir} has room for a pool of {bytes} bytes only',
    remedy: 'free some space, or move --volpath to a larger disk',
  },
  VOLUME_ID: { code: 'validation_error', status: 400, message: 'volume id "{id}" is not valid' },
  VOLUME_META: {
    code: 'validation_error',
    status: 400,
    message: 'the meta of a volume may have {max} bytes',
  },
  VOLUME_QUOTA: {
    code: 'validation_error',
    status: 400,
    message: 'volume quota {quota} is not a size in bytes',
  },
  VOLUME_UNKNOWN: { code: 'object_not_found', status: 404, message: 'volume {id} not found' },
  VOLUME_EXISTS: { code: 'object_exists', status: 409, message: 'volume {id} already exists' },
  VOLUME_KIND: {
    code: 'validation_error',
    status: 400,
    message: 'volume {id} is a {type}, that needs a {wanted}',
  },
  VOLUME_CHILDREN: {
    code: 'conflict',
    status: 409,
    message: 'volume {id} has snapshots or clones: {children}',
    remedy: 'delete those first',
  },
  VOLUME_BUSY: {
    code: 'conflict',
    status: 409,
    message: 'volume {id} is in use and was not deleted',
    remedy: 'stop the job that uses it',
  },
  VOLUME_FAILED: { status: 500, message: 'volume {id}: {action} failed: {reason}' },

  SUBNET: { code: 'validation_error', status: 400, message: 'subnet "{subnet}" is not valid: {reason}' },
  NETWORK_ABSENT: { status: 503, message: 'host: the network is not configured yet', retry: true },
  ADDRESSES_EXHAUSTED: {
    status: 500,
    message: 'host: every address of {subnet} is in use',
    remedy: 'stop jobs of this host, or give hosts larger subnets',
  },
  SUBNETS_EXHAUSTED: {
    status: 503,
    message: 'host: no subnet of {network} is free',
    remedy: 'give back those of hosts that are gone for good: flynn-host remove HOST',
  },
  NETWORK: { status: 500, message: 'host: {action} failed: {reason}' },
})
