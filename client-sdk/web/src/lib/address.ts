// Sign-in links in the address bar: their token must not stay there, nor in the history.
import { DOCUMENTS_ROUTE, routeTo } from './route';
import { type SignInLink, readSignInLink } from './session';

/** Reads the sign-in link that the page was opened with, if any, and puts the route that it leads to in its place. */
export function takeSignInLink(): SignInLink | null {
  const link = readSignInLink(location.hash);
  if (link) history.replaceState(null, '', link.documentId ? routeTo(link.documentId) : DOCUMENTS_ROUTE);
  return link;
}
