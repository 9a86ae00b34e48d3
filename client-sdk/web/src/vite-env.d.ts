// Types that the build supplies: Svelte components and Vite's imports.
/// <reference types="svelte" />
/// <reference types="vite/client" />
