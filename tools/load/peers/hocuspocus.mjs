// @hocuspocus/server with default settings, at HOST and PORT. Must not store documents or log.
import { Server } from '@hocuspocus/server'

const server = new Server({ address: process.env.HOST, port: Number(process.env.PORT), quiet: true })
await server.listen()
