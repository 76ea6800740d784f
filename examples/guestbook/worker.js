// Counts the words of new entries: a process type without a port.
import { migrate, pool } from './database.js'

await migrate()
console.log('worker started')
let stopping = false
process.on('SIGTERM', () => {
  stopping = true
})
while (!stopping) {
  try {
    const { rows } = await pool.query(
      "UPDATE entries SET words = array_length(regexp_split_to_array(trim(message), '\\s+'), 1) WHERE words IS NULL RETURNING id, words",
    )
    for (const row of rows) console.log(`entry ${row.id} has ${row.words} words`)
  } catch (e) {
    console.error(`counting failed: ${e.message}`)
  }
  await new Promise(resolve => setTimeout(resolve, 1000))
}
await pool.end()
