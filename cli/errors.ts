// What can go wrong in the command line, and what to type next.
import { errorTable } from '../pkg/errors/errors.ts'

const rows = {
  NO_CLUSTERS: {
    status: 400,
    message: 'no clusters configured',
    remedy: 'flynn cluster add NAME DOMAIN KEY; flynn-host cli-add-command prints the whole line',
  },
  UNKNOWN_CLUSTER: {
    status: 400,
    message: 'unknown cluster "{name}"',
    remedy: 'flynn cluster lists those that you have',
  },
  CONFIG_SYNTAX: {
    status: 400,
    message: '{path} is no valid TOML: {reason}',
    remedy: 'correct it, or move it away and run flynn cluster add again',
  },
  CLUSTER_EXISTS: {
    status: 409,
    message: 'Cluster "{name}" already exists in {path}',
    remedy: 'add --force to replace it',
  },
  CLUSTER_URL_EXISTS: {
    status: 409,
    message: 'A cluster with the URL "{url}" already exists in {path}',
    remedy: 'add --force to replace it',
  },
  NO_SUCH_CLUSTER: {
    status: 404,
    message: 'Cluster "{name}" does not exist',
    remedy: 'flynn cluster lists those that you have',
  },
  PIN_INVALID: {
    status: 400,
    message: 'error decoding tls pin: "{pin}" is not the base64 of 32 bytes',
    remedy: 'flynn-host cli-add-command prints the right one',
  },
  NO_APP: {
    status: 400,
    message: 'no app found',
    remedy: 'run this in a git repository with a flynn remote, or name the app: flynn -a APP ...',
  },
  NO_APP_REMOTE: {
    status: 400,
    message: 'no apps in git remotes',
    remedy: 'name the app: flynn -a APP ...; or add a remote: flynn -a APP remote add',
  },
  MANY_APPS: {
    status: 400,
    message:
      'Several git remotes lead to apps; choose one with -a, or with git config flynn.remote.\n\nAvailable Flynn remotes:\n{remotes}',
  },
  REMOTE_UNKNOWN: {
    status: 400,
    message: 'could not find git remote {remote} in {dir}',
    remedy: 'git remote -v lists those that are there',
  },
  REMOTE_NO_APP: {
    status: 400,
    message: 'could not find app name in {remote} git remote',
    remedy: 'name the app: flynn -a APP ...',
  },
  NO_RELEASE: {
    status: 404,
    message: 'No app release, deploy something first',
    remedy: 'flynn -a {app} deploy DIR',
  },
  RELEASE_NO_ARTIFACT: {
    status: 400,
    message: 'the release {release} has no image',
    remedy: 'flynn -a {app} deploy DIR',
  },
  NO_RELEASE_FOUND: {
    status: 404,
    message: 'no app release found',
    remedy: 'deploy something first: flynn deploy DIR',
  },
  NO_SUCH_JOB: { status: 404, message: '{app} has no job {job}', remedy: '{remedy}' },
  PROCESS_TYPE_MISSING: {
    status: 404,
    message: 'process type "{type}" not found in release {release}',
    remedy: 'flynn scale lists the process types',
  },
  VAR_FORMAT: { status: 400, message: 'invalid var format: "{text}"', remedy: 'write NAME=VALUE' },
  VAR_MISSING: {
    status: 404,
    message: 'var "{name}" not found in release "{release}"',
    remedy: 'flynn env lists those that are set',
  },
  PROCESS_MISSING: {
    status: 404,
    message: 'process "{type}" in release {release} not found',
    remedy: 'flynn scale lists the process types',
  },
  SCALE_FORMAT: {
    status: 400,
    message: 'ERROR: scale arguments must be of the form TYPE=COUNT[,TAG...], not "{text}"',
    remedy: 'flynn scale web=2',
  },
  SCALE_COUNT: {
    status: 400,
    message: 'ERROR: could not parse count in "{text}"',
    remedy: 'give a whole number from 0 up: flynn scale web=2',
  },
  SCALE_UNKNOWN: {
    status: 400,
    message: 'ERROR: unknown process types: {types}',
    remedy: 'the release has {known}',
  },
  SCALE_ALL: {
    status: 400,
    message: "ERROR: Can't use --all with a release or process types",
    remedy: 'flynn scale --all',
  },
  SCALE_CANCELLED: {
    status: 409,
    message: 'the scale request was cancelled by a newer one',
    remedy: 'flynn scale shows the counts of now',
  },
  SCALE_FAILING: {
    status: 500,
    message: 'not scaled: its jobs end again and again; the cluster goes on trying',
    remedy: 'correct the app and deploy it again, or scale it down',
  },
  SCALE_TIMEOUT: {
    status: 504,
    message: 'not scaled after {seconds} s; it goes on',
    remedy: 'flynn ps -a and flynn log show why',
  },
  DEPLOY_FAILED: {
    status: 500,
    message: 'deploy failed: {reason}',
    remedy: 'the old release serves on',
  },
  NO_DEPLOYMENT: {
    status: 404,
    message: 'no deployment is under way',
    remedy: 'flynn deployment lists those that were',
  },
  DEPLOYMENT_COMPLETE: {
    status: 409,
    message: 'deployment {id} was complete before it could be cancelled',
    remedy: 'flynn release rollback goes back to the release before',
  },
  FIRST_DEPLOY_FAILED: {
    status: 500,
    message: 'the first processes did not start: {reason}',
    remedy: 'correct the app and deploy again; flynn -a {app} log shows all they said',
  },
  NOT_ALL_KILLED: { status: 500, message: 'Could not kill all jobs.' },
  DELETE_TIMEOUT: {
    status: 504,
    message: 'timed out waiting for app deletion after {seconds} s; it goes on',
    remedy: 'flynn apps shows whether it is gone',
  },
  ROUTE_ID: {
    status: 400,
    message: '"{id}" is no route id',
    remedy: 'flynn route lists them: http/... or tcp/...',
  },
  ROUTE_TLS_PAIR: {
    status: 400,
    message: 'a certificate and a key are both needed',
    remedy: 'give --tls-cert and --tls-key',
  },
  ROUTE_TLS_OFF: {
    status: 400,
    message: '--no-tls takes the certificate away and goes with no other one',
    remedy: 'leave out --tls-cert and --tls-key, or leave out --no-tls',
  },
  ROUTE_TLS_AUTO: {
    status: 400,
    message: '--auto-tls goes with no certificate of your own',
    remedy: 'leave out --auto-tls, or leave out --tls-cert, --tls-key and --no-tls',
  },
  ROUTE_NO_SERVICE: {
    status: 400,
    message: 'No service name given',
    remedy: 'flynn route update tcp/ID -s SERVICE',
  },
  FILE_UNREADABLE: { status: 400, message: 'cannot read {path}: {reason}' },
  RELEASE_NONE_BEFORE: {
    status: 400,
    message: 'there is no earlier release to roll back to',
    remedy: 'flynn release lists them',
  },
  RELEASE_IS_CURRENT: {
    status: 400,
    message: 'release {release} is the current one',
    remedy: 'flynn release lists the others',
  },
  RESOURCE_TAKEN_BACK: {
    status: 500,
    message: 'the resource was made and is gone again, because the app does not run with it: {reason}',
    remedy: 'correct the app, deploy it, and add the resource again',
  },
  RESOURCE_NONE: {
    status: 404,
    message: 'the app has no such resource of provider {provider}',
    remedy: 'flynn resource lists those that it has',
  },
  RESOURCE_AMBIGUOUS: {
    status: 400,
    message: 'the app has {count} resources of provider {provider}',
    remedy: 'say which: flynn resource remove {provider} ID; flynn resource lists them',
  },
  NO_DATABASE: {
    status: 400,
    message: 'No {kind} {what} found. Provision one with `flynn resource add {kind}`',
  },
  DATABASE_ENV: {
    status: 400,
    message: 'missing {name} in app environment',
    remedy: 'flynn resource add {kind} gives an app all of it',
  },
  DATABASE_RELEASE: { status: 404, message: 'error getting app release: controller: resource not found' },
  DEPLOY_DIR: {
    status: 400,
    message: '{dir} is no directory',
    remedy: 'flynn deploy DIR takes the directory of an app',
  },
  DEPLOY_NO_PROCESS: {
    status: 400,
    message: '{dir} says nowhere how to start',
    remedy: 'add a Procfile ("web: COMMAND") or a start script to its package.json',
  },
  PROCFILE_LINE: {
    status: 400,
    message: 'Procfile line {line} is no "TYPE: COMMAND"',
    remedy: 'types are lower-case letters, digits and dashes',
  },
  DEPLOY_NPM: {
    status: 500,
    message: 'its dependencies could not be installed: {reason}',
    remedy: 'run npm ci in {dir} yourself and deploy again',
  },
  NO_STACK: {
    status: 500,
    message: 'the cluster has no stack image',
    remedy: 'an operator adds it: flynn-host bootstrap runs the step stack-image',
  },
  JOB_ERROR: { status: 500, message: '{message}' },
  JOB_ENDED: {
    status: 500,
    message: 'EOF',
    remedy: 'the connection to the job was lost; flynn ps -a shows what became of it',
  },
  PROMPT_NO_ANSWER: {
    status: 400,
    message: 'no answer was given',
    remedy: 'there is no terminal to ask on: add {flag} to go on without being asked',
  },
  NO_UPDATE: {
    status: 400,
    message: 'this is version {version}, which does not update itself',
    remedy: 'it comes with the platform: run the install-flynn of the version that you want',
  },
  ANSWER_WANTED: {
    status: 400,
    message: 'nothing was answered to "{question}"',
    remedy: 'run it on a terminal, or pipe the answer in',
  },
  ISSUER_URL: {
    status: 400,
    message: '"{text}" is no address of an issuer',
    remedy: 'such as https://login.example.com?client_id=flynn-cli',
  },
  ISSUER_WANTED: {
    status: 400,
    message: 'which issuer?',
    remedy: 'flynn login -p "https://login.example.com?client_id=flynn-cli"',
  },
  ISSUER_FAILED: {
    status: 502,
    message: 'the issuer {host} could not be used: {reason}',
    remedy: 'check its address, and log in again: flynn login',
  },
  LOGIN_WHERE: {
    status: 400,
    message: 'no cluster is named',
    remedy: 'add -p to choose one, or -c https://controller.DOMAIN',
  },
  LOGIN_FAILED: { status: 401, message: 'not logged in: {reason}', remedy: 'try again: flynn login' },
  LOGIN_AGAIN: {
    status: 401,
    message: 'the login at {host} is over: {reason}',
    remedy: 'log in again: flynn login',
  },
  CONTROLLER_URL: {
    status: 400,
    message: '"{url}" is no address of a controller',
    remedy: 'it begins with https://controller.',
  },
  LIMIT_FORMAT: {
    status: 400,
    message: 'invalid limit "{text}"',
    remedy: 'write memory=512MB, cpu=1000, temp_disk=1GB, max_fd=10000 or max_procs=100',
  },
  LIMIT_SMALL: {
    status: 400,
    message: 'limit "{text}" is too small for any process',
    remedy: 'give at least {least}; write the unit: memory=512MB',
  },
  LIMIT_TYPE_UNKNOWN: {
    status: 404,
    message: 'unknown process type "{type}"',
    remedy: 'flynn limit lists them',
  },
  META_FORMAT: { status: 400, message: 'invalid meta format: "{text}"', remedy: 'write KEY=VALUE' },
  SINK_PROTOCOL: {
    status: 400,
    message: 'Invalid syslog protocol: {scheme}',
    remedy: 'the URL begins with syslog:// or syslog+tls://',
  },
  SINK_FORMAT: {
    status: 400,
    message: 'Invalid syslog format: {format}',
    remedy: 'it is rfc6587, newline or prefixed_newline',
  },
  GIT_MISSING: {
    status: 400,
    message: 'git is not installed',
    remedy: 'install it, or add the cluster with --no-git',
  },
  DOMAIN_UNKNOWN: {
    status: 500,
    message: 'the controller does not say which domain the cluster has',
    remedy: 'flynn -a controller env get DEFAULT_ROUTE_DOMAIN',
  },
  DOMAIN_FAILED: { status: 500, message: 'the domain was not migrated: {reason}' },
  DOMAIN_TIMEOUT: {
    status: 504,
    message: 'timed out waiting for the domain migration after {seconds} s; it may go on',
    remedy: 'flynn -a controller env get DEFAULT_ROUTE_DOMAIN shows whether it is done',
  },
  RELEASE_TYPE: {
    status: 400,
    message: 'Release type {type} not supported.',
    remedy: 'docker is the only one',
  },
  RELEASE_DELETE_TIMEOUT: {
    status: 504,
    message: 'timed out waiting for release deletion after {seconds} s; it goes on',
    remedy: 'flynn release shows whether it is gone',
  },
  DELETION_FAILED: { status: 500, message: 'the deletion failed: {reason}' },
  SHELL_UNKNOWN: {
    status: 400,
    message: 'no completion for "{shell}"',
    remedy: 'flynn completion bash, zsh or fish',
  },
} as const

export const errors = errorTable(rows)

/** Codes of errors that were found here, not by the controller. */
export const ownCodes: ReadonlySet<string> = new Set(Object.keys(rows).map(key => key.toLowerCase()))
