// Wire types of the token service (contract host.md 6.1). Unknown members are ignored.
import { type Static, Type } from 'typebox'

export const SshKey = Type.Object({
  type: Type.String({ maxLength: 32 }),
  data: Type.String({ maxLength: 4096 }),
})

/** A host as it registers itself. */
export const NewInstance = Type.Object({
  name: Type.String({ minLength: 1, maxLength: 64 }),
  /** `http://<address>:<port>` of the host's API. */
  url: Type.String({ pattern: '^https?://[0-9A-Za-z.:\\[\\]-]+(:\\d{1,5})?/?$', maxLength: 256 }),
  flynn_version: Type.Optional(Type.String({ maxLength: 128 })),
  ssh_public_keys: Type.Optional(Type.Array(SshKey, { maxItems: 8 })),
})
export type NewInstance = Static<typeof NewInstance>

export const NewInstanceBody = Type.Object({ data: NewInstance })

/** A host as the service tells it. */
export type Instance = NewInstance & {
  readonly id: string
  readonly cluster_id: string
  readonly flynn_version: string
  readonly ssh_public_keys: readonly Static<typeof SshKey>[]
  /** RFC 3339. */
  readonly created_at: string
}
