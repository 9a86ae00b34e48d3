// Tests of src/lib: plain TypeScript, so no browser and no framework is loaded.
// Only a test that fails waits until its time is over, so that is long enough for a loaded machine.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: { include: ['src/**/*.test.ts', 'e2e/**/*.test.mjs'], environment: 'node', testTimeout: 60_000, hookTimeout: 60_000 },
});
