// Loads our .proto files, which lie beside this module (and beside the bundle when bundled), and gives the calls and
// messages in them by name.
import { fileURLToPath } from 'node:url'
import type { MethodDefinition } from '@grpc/grpc-js'
import { loadSync, type MessageTypeDefinition, type PackageDefinition } from '@grpc/proto-loader'

// One literal `new URL` each, so that a bundler sees which files to copy.
const files = [
  new URL('./containerd-containers.proto', import.meta.url),
  new URL('./containerd-tasks.proto', import.meta.url),
  new URL('./containerd-events.proto', import.meta.url),
  new URL('./containerd-namespaces.proto', import.meta.url),
  new URL('./containerd-version.proto', import.meta.url),
  new URL('./containerd-runc.proto', import.meta.url),
]

let loaded: PackageDefinition | undefined

function definitions(): PackageDefinition {
  loaded ??= loadSync(
    files.map(url => fileURLToPath(url)),
    { keepCase: true, longs: Number, enums: String, defaults: true },
  )
  return loaded
}

export function method(service: string, name: string): MethodDefinition<object, unknown> {
  const found = (definitions()[service] as Readonly<Record<string, MethodDefinition<object, unknown>>>)?.[
    name
  ]
  if (found === undefined) throw new Error(`no call ${service}/${name} in our .proto files`)
  return found
}

function message(name: string): MessageTypeDefinition<object, object> {
  const found = definitions()[name]
  if (found === undefined || !('serialize' in found))
    throw new Error(`no message ${name} in our .proto files`)
  return found as MessageTypeDefinition<object, object>
}

export function encode(name: string, value: object): Buffer {
  return message(name).serialize(value)
}

export function decode<T extends object>(name: string, bytes: Buffer): T {
  return message(name).deserialize(bytes) as T
}
