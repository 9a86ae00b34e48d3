// @hocuspocus/server as it comes: no storage, no log. HOST and PORT say where it listens.
import { Server } from '@hocuspocus/server'

const server = new Server({ address: process.env.HOST, port: Number(process.env.PORT), quiet: true })
await server.listen()
