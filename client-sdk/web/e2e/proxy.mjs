// A small reverse proxy, as operators put one before a server: it serves `target` below a path, and optionally this
// folder's built page instead of the target's own. Requests and sockets outside the path are refused.
import { createServer, request as ask } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';

export const DIST = fileURLToPath(new URL('../dist', import.meta.url));
export const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

/** A file of the built page, or null. */
export async function builtFile(path) {
  const wanted = normalize(path === '/' ? '/index.html' : path);
  const body = await readFile(join(DIST, wanted)).catch(() => null);
  return body && { body, type: TYPES[extname(wanted)] ?? 'application/octet-stream' };
}

/** Serves `target` (`http://host:port`) below `prefix` (`/some/path`, or empty). */
export async function proxy(target, { prefix = '', ownPage = false, policy = '' } = {}) {
  const { hostname, port } = new URL(target);
  const strip = (url) => (url.startsWith(`${prefix}/`) ? url.slice(prefix.length) : null);
  const outside = [];

  const server = createServer(async (incoming, outgoing) => {
    const url = strip(incoming.url);
    if (url === null) {
      outside.push(incoming.url);
      return outgoing.writeHead(404).end();
    }
    const path = new URL(url, 'http://x').pathname;
    const file = ownPage && !path.startsWith('/_') ? await builtFile(path) : null;
    if (file) return outgoing.writeHead(200, { 'Content-Type': file.type, ...(policy && { 'Content-Security-Policy': policy }) }).end(file.body);
    const headers = { ...incoming.headers, host: `${hostname}:${port}` };
    const onward = ask({ hostname, port, path: url, method: incoming.method, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    onward.on('error', () => (outgoing.headersSent ? outgoing.destroy() : outgoing.writeHead(502).end()));
    incoming.on('error', () => onward.destroy());
    incoming.pipe(onward);
  });

  const tunnels = new Set();
  server.on('upgrade', (incoming, socket, head) => {
    const url = strip(incoming.url);
    if (url === null) return socket.destroy();
    const onward = connect(Number(port), hostname, () => {
      const headers = incoming.rawHeaders.reduce((lines, value, i) => (i % 2 ? `${lines}: ${value}\r\n` : lines + value), '');
      onward.write(`GET ${url} HTTP/1.1\r\n${headers}\r\n`);
      onward.write(head);
      onward.pipe(socket).pipe(onward);
    });
    for (const [one, other] of [[socket, onward], [onward, socket]]) {
      tunnels.add(one);
      one.on('error', () => other.destroy()).on('close', () => (tunnels.delete(one), other.destroy()));
    }
  });

  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    url: `http://127.0.0.1:${server.address().port}${prefix}/`,
    /** What was asked for outside the prefix. */
    outside,
    async close() {
      for (const socket of tunnels) socket.destroy();
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}
