// The page's start: takes the token out of the address before anything else runs, then shows the app.
import { mount } from 'svelte';
import App from './App.svelte';
import './app.css';
import { takeSignInLink } from './lib/address';
import { applyTheme, readTheme } from './lib/theme';

applyTheme(readTheme());
const link = takeSignInLink();
const target = document.getElementById('app');
if (target) {
  // The outline that index.html shows until now.
  target.replaceChildren();
  mount(App, { target, props: { link } });
}
