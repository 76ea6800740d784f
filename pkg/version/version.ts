// The version of this build. Bundles have it replaced at build time (esbuild `define` of process.env.FLYNN_VERSION);
// sources run directly say `dev` unless the environment names one.

/** `vYYYYMMDD.N[-commit]`, or `dev` (contract host.md 0.5). */
export const version: string = process.env['FLYNN_VERSION'] || 'dev'

/** The release part, without the commit suffix. */
export function releaseOf(full: string): string {
  return full.startsWith('v') ? (full.split('-')[0] ?? full) : full
}
