// Tests of src/lib: plain TypeScript, so no browser and no framework is loaded.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: { include: ['src/**/*.test.ts', 'e2e/**/*.test.mjs'], environment: 'node' },
});
