// Builds the page into dist/, which the server embeds and serves at /.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, loadEnv } from 'vite';

// `npm run dev` serves the sources and passes everything else on to a homeserver (or the stand-in of e2e/).
const homeserver = loadEnv('', '.', 'WEFT_')['WEFT_HOMESERVER'] ?? 'http://127.0.0.1:8008';

export default defineConfig({
  plugins: [svelte()],
  // Two copies of Yjs in one page break everything without a word.
  resolve: { dedupe: ['yjs', 'lib0', 'y-protocols'] },
  build: {
    target: 'es2022',
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
