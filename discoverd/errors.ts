// The error table of discoverd; codes, statuses and texts of contract discoverd.md 3.3-7. Rows without a remedy have the
// body that the original's clients compare.
import { errorTable } from '../pkg/errors/errors.ts'

export const errors = errorTable({
  SYNTAX_ERROR: { status: 400, message: 'The provided JSON input is invalid' },
  CONTENT_TYPE: {
    code: 'validation_error',
    status: 400,
    message: 'Content-Type must be application/json',
  },
  INVALID: { code: 'validation_error', status: 400, message: '{text}' },
  NOT_MANUAL: {
    code: 'validation_error',
    status: 400,
    message: 'service leader election type is not manual',
  },
  SERVICE_NOT_FOUND: {
    code: 'object_not_found',
    status: 404,
    message: 'discoverd: service "{service}" not found',
  },
  INSTANCES_NOT_FOUND: {
    code: 'object_not_found',
    status: 404,
    message: 'service not found: "{service}"',
  },
  META_NOT_FOUND: { code: 'object_not_found', status: 404, message: 'service meta not found' },
  LEADER_NOT_FOUND: { code: 'object_not_found', status: 404, message: 'no leader found' },
  SERVICE_EXISTS: {
    code: 'object_exists',
    status: 409,
    message: 'discoverd: service "{service}" already exists',
  },
  META_EXISTS: {
    code: 'object_exists',
    status: 409,
    message: 'Service metadata for "{service}" already exists, use index=n to set',
  },
  META_ABSENT: {
    code: 'precondition_failed',
    status: 412,
    message: 'Service metadata for "{service}" does not exist, use index=0 to set',
  },
  META_CHANGED: {
    code: 'precondition_failed',
    status: 412,
    message: 'Service metadata for "{service}" exists, but wrong index provided',
  },
  SHUTTING_DOWN: {
    code: 'service_unavailable',
    status: 503,
    message: 'discoverd: shutting down',
    retry: true,
  },
  NO_LEADER: {
    code: 'service_unavailable',
    status: 503,
    message: 'discoverd: no known leader',
    remedy: 'a majority of the discoverd peers must be up; writes work again as soon as it is',
    retry: true,
  },
  OUTCOME_UNKNOWN: {
    code: 'service_unavailable',
    status: 503,
    message: 'discoverd: the consensus leader was lost while writing; the write may or may not have happened',
    remedy: 'read the present state before writing again',
  },
  STARTING: {
    code: 'service_unavailable',
    status: 503,
    message: 'discoverd: the cluster state is not loaded yet',
    retry: true,
  },
  TOO_MANY: {
    code: 'ratelimited',
    status: 429,
    message: 'discoverd: the limit of {max} {what} is reached',
    remedy: 'remove or close some first',
  },
  FLAG: { code: 'bad_flag', status: 400, message: '{text}' },
  PROMOTE_FAILED: {
    status: 500,
    message: 'discoverd: this host was not made a peer: {reason}',
    remedy: 'check that a majority of the peers is up (flynn-host list), then try again',
  },
  DEMOTE_FAILED: {
    status: 500,
    message: 'discoverd: the peer was not removed: {reason}',
    remedy: 'check that a majority of the other peers is up (flynn-host list), then try again',
  },
  LAST_PEER: {
    status: 409,
    message: 'discoverd: the only peer holds all state and cannot be removed',
    remedy: 'promote another host first',
  },
  NOTHING_TO_RECOVER_FROM: {
    status: 409,
    message: 'discoverd: this host is a proxy, it has no data of the consensus',
    remedy: 'see which hosts have some: flynn-host recover --plan ADDR',
  },
  HAS_MAJORITY: {
    status: 409,
    message: 'discoverd: a majority of the peers agrees, nothing has to be recovered',
    remedy: 'take out a dead peer with: flynn-host demote --force ADDR',
  },
  RECOVER_FAILED: {
    status: 500,
    message: 'discoverd: the consensus was not started anew: {reason}',
    remedy:
      'its data are unchanged or already those of the new cluster; try again, or see: flynn-host log JOB',
  },
  INVALID_PEER: {
    code: 'validation_error',
    status: 400,
    message: 'discoverd: the peer "{peer}" is not ip:port',
  },
  NO_ETCD_DATA: {
    code: 'etcd_data_lost',
    status: 500,
    message: 'the etcd cluster knows this peer ({url}) as started, but its data directory is empty',
    remedy: 'remove the member from the cluster and promote this host again; it serves as a proxy until then',
  },
})
