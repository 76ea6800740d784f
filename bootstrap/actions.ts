// Every action that a manifest may name (contract host.md 7.3).
import { addApp, addProvider, addRoute, createArtifact, deployApp, scaleApp } from './actions/apps.ts'
import { resourceCheck, waitHosts } from './actions/hosts.ts'
import { runApp } from './actions/run-app.ts'
import { genRandom, genTlsCert, log, requireEnv } from './actions/values.ts'
import { clusterMonitor, statusCheck, wait } from './actions/wait.ts'
import type { Action } from './engine.ts'

export const actions: Readonly<Record<string, Action>> = {
  'require-env': requireEnv,
  'resource-check': resourceCheck,
  'run-app': runApp,
  'add-app': addApp,
  'deploy-app': deployApp,
  'scale-app': scaleApp,
  'create-artifact': createArtifact,
  'add-provider': addProvider,
  'add-route': addRoute,
  'gen-random': genRandom,
  'gen-tls-cert': genTlsCert,
  wait,
  'wait-hosts': waitHosts,
  'status-check': statusCheck,
  'cluster-monitor': clusterMonitor,
  log,
}
