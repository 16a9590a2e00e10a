import { createServer } from 'node:http'
import { setTimeout } from 'node:timers/promises'

const server = createServer(async (request, response) => {
  const url = new URL(request.url, `http://${request.headers.host}`)
  if (url.pathname === '/events') {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    for (let number = 0; number < 3; number++) {
      response.write(`data: ${number}\n\n`)
      await setTimeout(10)
    }
    return response.end()
  }
  let size = 0
  for await (const chunk of request) size += chunk.length
  response.writeHead(200, { 'Content-Type': 'application/json' })
  response.end(JSON.stringify(request.method === 'POST' ? { size } : { hello: url.searchParams.get('name') }))
})

// The smallest thing that may be called a WebSocket: it accepts, echoes short unmasked text, and that is all.
server.on('upgrade', async (request, socket) => {
  const { createHash } = await import('node:crypto')
  const magic = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
  const key = createHash('sha1').update(request.headers['sec-websocket-key'] + magic).digest('base64')
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${key}\r\n\r\n`)
  socket.on('data', (frame) => {
    if ((frame[0] & 15) === 8) return socket.end(Buffer.from([0x88, 0]))
    const mask = frame.subarray(2, 6)
    const text = frame.subarray(6, 6 + (frame[1] & 127)).map((byte, index) => byte ^ mask[index % 4])
    socket.write(Buffer.concat([Buffer.from([0x81, text.length]), text]))
  })
  socket.on('error', () => socket.destroy())
})

process.on('SIGTERM', () => process.exit(0))
server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => console.log('node listens'))
