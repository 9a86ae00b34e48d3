// Builds the page into dist/, which the server embeds and serves at /.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { type Plugin, defineConfig, loadEnv } from 'vite';

// `npm run dev` serves the sources and proxies everything else to a homeserver (or the stand-in of e2e/).
const homeserver = loadEnv('', '.', 'WEFT_')['WEFT_HOMESERVER'] ?? 'http://127.0.0.1:8008';

/** A style sheet in the head holds back the first paint; behind the outline in the body it doesn't. */
function outlineFirst(): Plugin {
  return {
    name: 'outline-first',
    enforce: 'post',
    transformIndexHtml: {
      order: 'post',
      handler(html) {
        const links: string[] = [];
        const rest = html.replace(/^\s*<link rel="stylesheet"[^>]*>\n?/gm, (link) => (links.push(link.trim()), ''));
        return rest.replace('<noscript>', `${links.join('')}\n    <noscript>`);
      },
    },
  };
}

export default defineConfig({
  plugins: [svelte(), outlineFirst()],
  // Relative addresses: a proxy may serve the page below any path.
  base: './',
  // Two copies of Yjs in one page break everything without an error.
  resolve: { dedupe: ['yjs', 'lib0', 'y-protocols'] },
  build: {
    target: 'es2022',
    // Old enough targets would have light-dark() replaced by what the system prefers, and the choice of a theme with it.
    cssTarget: ['chrome123', 'edge123', 'firefox120', 'safari17.5'],
    // Nothing is inlined as data: URLs, so that the server's content security policy can stay strict.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  server: {
    proxy: {
      '/_weft': { target: homeserver, ws: true, changeOrigin: true },
      '/_matrix': { target: homeserver, changeOrigin: true },
    },
  },
});
