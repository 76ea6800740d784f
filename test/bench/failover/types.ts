// What a scenario of the failover bench is: it gets a booted cluster of three hosts, breaks something once a trial, and
// says how long things took. main program: ../failover.ts.
import type { FlynnCluster } from '../../fixtures/flynn-cluster.ts'

/** Milliseconds by the name of what was measured; `undefined` when a trial could not tell. */
export type Sample = Readonly<Record<string, number>>

export type TrialResult = {
  readonly timesMs: Sample
  /** Things that must not happen, counted: lost rows, failed requests. */
  readonly counts: Sample
}

export type Aim = {
  readonly name: string
  readonly statistic: 'median' | 'p99' | 'max'
  readonly underMs: number
}

export type Scenario = {
  readonly title: string
  readonly aims: readonly Aim[]
  /** Counts that must be zero over all trials. */
  readonly zero: readonly string[]
  /** Runs one trial and leaves the cluster whole again. */
  readonly trial: (cluster: FlynnCluster, n: number) => Promise<TrialResult>
}

/** Everything a trial waits for comes within this time, or the trial fails. */
export const trialPatienceMs = 180_000
