import { createServer } from 'node:http'
import { migrate, pool } from './database.js'

const port = Number(process.env.PORT ?? 8080)
const formBytesMax = 16 * 1024

const escapes = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
const escapeHtml = text => text.replace(/[&<>"']/g, c => escapes[c])

const latest = async () =>
  (await pool.query('SELECT id, name, message, words, created_at FROM entries ORDER BY id DESC LIMIT 50'))
    .rows

function page(entries) {
  const rows = entries.map(
    e =>
      `<li><b>${escapeHtml(e.name)}</b>: ${escapeHtml(e.message)}${e.words === null ? '' : ` <small>(${e.words} words)</small>`}</li>`,
  )
  return `<!doctype html><html lang="en"><title>Guestbook</title><style>body{font:16px sans-serif;max-width:40em;margin:3em auto}</style>
<h1>Guestbook</h1>
<form method="post"><input name="name" placeholder="Your name" required> <input name="message" placeholder="Your message" required size="40"> <button>Sign</button></form>
<ul>${rows.join('\n')}</ul>
<p><small>served by ${escapeHtml(process.env.FLYNN_JOB_ID ?? 'a local process')}</small></p></html>\n`
}

async function readForm(req) {
  let body = ''
  for await (const chunk of req) {
    body += chunk
    if (body.length > formBytesMax) return undefined
  }
  const form = new URLSearchParams(body)
  const name = form.get('name')?.trim()
  const message = form.get('message')?.trim()
  return name && message ? { name, message } : undefined
}

async function handle(req, res) {
  const { pathname } = new URL(req.url, 'http://localhost')
  if (pathname === '/healthz') return res.writeHead(200).end('ok\n')
  if (pathname === '/entries.json') {
    const body = JSON.stringify(await latest())
    return res.writeHead(200, { 'content-type': 'application/json' }).end(body)
  }
  if (pathname !== '/') return res.writeHead(404).end('not found\n')
  if (req.method === 'POST') {
    const entry = await readForm(req)
    if (!entry) return res.writeHead(400).end('name and message are both needed\n')
    await pool.query('INSERT INTO entries (name, message) VALUES ($1, $2)', [entry.name, entry.message])
    console.log(`signed by ${entry.name}`)
    return res.writeHead(303, { location: '/' }).end()
  }
  const body = page(await latest())
  return res.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(body)
}

await migrate()
const server = createServer((req, res) => {
  handle(req, res).catch(e => {
    console.error(`${req.method} ${req.url} failed: ${e.message}`)
    if (!res.headersSent) res.writeHead(503)
    res.end('the database does not answer, try again\n')
  })
})
// Longer than any router keeps an idle connection, so that it never reuses one that we are closing.
server.keepAliveTimeout = 620_000
server.listen(port, () => console.log(`guestbook listening on ${port}`))

process.on('SIGTERM', () => {
  server.close(() => process.exit(0))
  server.closeIdleConnections()
})
