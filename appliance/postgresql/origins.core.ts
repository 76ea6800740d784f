// Whether a record of replication origins (`pg_logical/replorigin_checkpoint`) is one that a server has written: a magic number,
// 16 bytes for each origin, and the CRC-32C of all that (PostgreSQL 15, src/backend/replication/logical/origin.c). Pure.

const magic = 0x1257dade
const magicBytes = 4
const originBytes = 16
const crcBytes = 4

/** Castagnoli's polynomial, its bits reversed. */
const polynomial = 0x82f63b78

export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? polynomial : 0)
  }
  return ~crc >>> 0
}

/** False for what a power cut has left half written. Of a machine of little-endian numbers, as all are that run us. */
export function areOrigins(file: Buffer): boolean {
  const end = file.length - crcBytes
  if (end < magicBytes || (end - magicBytes) % originBytes !== 0) return false
  return file.readUInt32LE(0) === magic && file.readUInt32LE(end) === crc32c(file.subarray(0, end))
}
