// Where in the app the address points to. Only the fragment is used: the server has one page to serve, at the place's
// own address, and no path below it is a screen.
import { decode } from './session';

export type Route = { readonly name: 'documents' } | { readonly name: 'document'; readonly id: string };

export const DOCUMENTS_ROUTE = '#/';

export function readRoute(fragment: string): Route {
  const match = /^#\/d\/([^/?#]+)$/.exec(fragment);
  const id = match?.[1] ? decode(match[1]) : null;
  return id ? { name: 'document', id } : { name: 'documents' };
}

export function routeTo(id: string): string {
  return `#/d/${encodeURIComponent(id)}`;
}
