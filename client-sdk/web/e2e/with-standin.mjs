// `npm run e2e [FOLDER]`: every screen of the built page against the stand-in, with the things that go wrong, an
// accessibility check and screenshots. SCENE=words plays only the scenes whose name contains them.
import { mkdir } from 'node:fs/promises';
import { argv } from 'node:process';

process.env.SHOTS = argv[2] ?? process.env.SHOTS ?? 'e2e-shots';
const { launch } = await import('./browser.mjs');
const { folder } = await import('./world.mjs');
const { appearance } = await import('./scenes/appearance.mjs');
const { documents } = await import('./scenes/documents.mjs');
const { refusing } = await import('./scenes/refusing.mjs');
const { sessions } = await import('./scenes/sessions.mjs');
const { sharing } = await import('./scenes/sharing.mjs');
const { writing } = await import('./scenes/writing.mjs');

/** Scenes played at the same time: most of their time is waiting. */
const AT_ONCE = Number(process.env.AT_ONCE ?? 3);

const only = process.env.SCENE ?? '';
const scenes = Object.entries({ ...writing, ...refusing, ...sessions, ...documents, ...sharing, ...appearance }).filter(([name]) => name.includes(only));
await mkdir(folder, { recursive: true });
const browser = await launch();
const failed = [];

async function play() {
  for (let next = scenes.shift(); next; next = scenes.shift()) {
    const [name, scene] = next;
    const began = performance.now();
    try {
      await scene(browser);
      console.log(`--  ${name} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
    } catch (error) {
      failed.push(name);
      console.error(`FAILED: ${name}: ${error.stack}`);
    }
  }
}

const count = scenes.length;
await Promise.all(Array.from({ length: AT_ONCE }, play));
await browser.close();
console.log(failed.length === 0 ? `page: ${count} scenes passed` : `page: ${failed.length} of ${count} scenes failed: ${failed.join('; ')}`);
process.exit(failed.length === 0 && count > 0 ? 0 : 1);
