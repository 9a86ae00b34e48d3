// The page's start: takes the token out of the address before anything else runs, then shows the app.
import { mount } from 'svelte';
import App from './App.svelte';
import './app.css';
import { routeTo } from './lib/route';
import { readSignInLink } from './lib/session';
import { applyTheme, readTheme } from './lib/theme';

function takeLink() {
  const link = readSignInLink(location.hash);
  if (link) history.replaceState(null, '', link.documentId ? routeTo(link.documentId) : '#/');
  return link;
}

applyTheme(readTheme());
const target = document.getElementById('app');
const link = takeLink();
if (target) mount(App, { target, props: { link } });

// A link pasted into an open tab changes the fragment without loading the page anew.
addEventListener('hashchange', () => {
  if (readSignInLink(location.hash)) location.reload();
});
