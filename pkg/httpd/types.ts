// Short names for the node and fastify types that the factory is made of.

export type { IncomingMessage, ServerResponse } from 'node:http'
export type { RawServerDefault } from 'fastify'
