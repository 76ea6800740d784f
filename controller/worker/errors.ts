// Error table of the worker. The messages reach people through deployment and deletion events.
import { errorTable } from '../../pkg/errors/errors.ts'

export const errors = errorTable({
  JOB_FAILED: {
    status: 500,
    message: '{type} job failed to start: {reason}',
    remedy: 'see the log of the app: flynn log',
  },
  SCALE_TIMEOUT: {
    status: 500,
    message: 'timed out after {seconds} s waiting for {processes} of release {release}',
    remedy: 'see flynn ps and flynn log; flynn deployment timeout changes the limit',
  },
  SCALE_CANCELLED: {
    status: 500,
    message: 'the scale request for {processes} of release {release} was cancelled',
    remedy: 'do not scale an app while it is deployed, and deploy again',
  },
  DEPLOYMENT_FAILED: {
    status: 500,
    message: 'deployment {deployment} of {app} failed',
    remedy: 'see its events and the log of the app; it is tried again by itself',
  },
  DEPLOYMENT_CANCELLED: {
    status: 500,
    message: 'the deployment was cancelled',
    remedy: 'deploy again when you like',
  },
  DEPLOYMENT_TAKEN: {
    status: 503,
    message: 'another worker took deployment {deployment} over',
    retry: true,
  },
  DATABASE_UNHEALTHY: {
    status: 500,
    message: 'the database cluster {service} is not well: {reason}',
    remedy: 'see flynn -a {service} ps and its log, and deploy when every member runs',
  },
  TAKEN_BACK: {
    status: 500,
    message: 'the release was taken back because its {type} job did not come up: {reason}',
    remedy: 'see the log of the app: flynn log --init',
  },
  NO_PROCESS_TYPE: {
    status: 400,
    message: 'the release has no process type {type}, which SIRENIA_PROCESS names',
    remedy: 'name a process type of the release in SIRENIA_PROCESS',
  },
  STEPS_ENDLESS: {
    status: 500,
    message: 'the deployment did not come to an end in {steps} steps',
    remedy: 'do not scale an app while it is deployed, and deploy again',
  },
  WORKER_STOPPED: { status: 503, message: 'worker stopped', retry: true },
  RELEASE_NOT_DELETED: {
    status: 500,
    message: 'release {release} was not deleted: {reason}',
    remedy: 'it is tried again by itself',
  },
  FILE_NOT_DELETED: {
    status: 500,
    message: '{uri} was not deleted: {reason}',
    remedy: 'it is tried again by itself',
  },
  GC_LIMIT_INVALID: {
    status: 400,
    message: 'the app meta gc.max_inactive_slug_releases is "{value}", which is no number',
    remedy: 'set it to a whole number, or to false',
  },
  CHALLENGE_UNANSWERED: {
    status: 503,
    message: 'not every router answers for {domain}: {routers}',
    remedy: 'see flynn -a router ps; it is tried again by itself',
  },
})
