// The address that the page is served from. A proxy may put it below a path (`https://example.org/weft/`), so every
// request, file and storage key starts here and none starts at the root of the host.

export interface Place {
  /** `https://example.org/weft/`, always with a slash at the end. */
  readonly base: string;
  /** Set apart in storage, which all pages of a host share: empty at the root of the host. */
  readonly storageSuffix: string;
}

/** The folder of the page at `href`, whatever its file name, query and fragment are. */
export function placeOf(href: string): Place {
  const { href: base, pathname } = new URL('./', href);
  return { base, storageSuffix: pathname === '/' ? '' : `:${pathname}` };
}
