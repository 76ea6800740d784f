// Wire types of the controller API as typebox schemas and the types made from them (contract controller.md 2). Times
// are RFC 3339 text in UTC with microseconds. In bodies null counts as absent and unknown keys are dropped (1.5).
export * from './types/acme.ts'
export * from './types/apps.ts'
export * from './types/cluster.ts'
export type * from './types/drain.ts'
export type * from './types/explain.ts'
export * from './types/jobs.ts'
export * from './types/routes.ts'
