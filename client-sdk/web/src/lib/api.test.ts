// Requests go below the place of the page with the token in the header, a token is renewed once, and each failure
// becomes a sentence that says what did not happen and whose fault it is.
import { describe, expect, it } from 'vitest';
import { Api, ApiError, type Tokens } from './api';
import { failureReason, failureText, signInText } from './failures';
import { placeOf } from './place';

interface Sent {
  url: string;
  init: RequestInit;
}
type Answer = [status: number, body: unknown, headers?: Record<string, string>];

const BASE = 'https://weft.example/docs/';
const FIXED: Tokens = { token: async () => 'secret', renew: async () => null };

function server(answers: Answer | ((sent: Sent) => Answer), tokens: Tokens = FIXED) {
  const sent: Sent[] = [];
  const api = new Api(BASE, tokens, async (url, init) => {
    sent.push({ url, init });
    const [status, body, headers = {}] = typeof answers === 'function' ? answers({ url, init }) : answers;
    return new Response(typeof body === 'string' ? body : JSON.stringify(body), { status, headers });
  });
  return { api, sent };
}

const tokenOf = (sent: Sent | undefined) => (sent?.init.headers as Record<string, string>)['Authorization'];

async function failureOf(work: Promise<unknown>): Promise<ApiError> {
  const error: unknown = await work.then(
    () => null,
    (failure: unknown) => failure,
  );
  expect(error).toBeInstanceOf(ApiError);
  return error as ApiError;
}

describe('requests', () => {
  it('go below the place of the page, name rooms and users percent-encoded, and carry the token in the header only', async () => {
    const { api, sent } = server([200, {}]);
    await api.setRole('!r/o?m:x', '@b:y:1', 'viewer');
    expect(sent[0]?.url).toBe(`${BASE}_weft/client/v1/documents/!r%2Fo%3Fm%3Ax/members/%40b%3Ay%3A1`);
    expect(sent[0]?.init.method).toBe('PUT');
    expect(sent[0]?.init.body).toBe('{"role":"viewer"}');
    expect(tokenOf(sent[0])).toBe('Bearer secret');
  });

  it('turn a login into a session that can be refreshed, and send no old token with it', async () => {
    const { api, sent } = server([200, { user_id: '@a:b', device_id: 'D', access_token: 't', refresh_token: 'r', expires_in_ms: 5000 }]);
    expect(await api.signIn(' a ', 'p', 100)).toEqual({ userId: '@a:b', deviceId: 'D', token: 't', refreshToken: 'r', expiresAt: 5100 });
    expect(JSON.parse(String(sent[0]?.init.body))).toMatchObject({ refresh_token: true, identifier: { user: 'a' } });
    expect(tokenOf(sent[0])).toBeUndefined();
  });

  it('take an answer without its fields for a failure of the server', async () => {
    const { api } = server([200, { user_id: '@a:b' }]);
    expect((await failureOf(api.signIn('a', 'p'))).status).toBe(502);
  });

  it('treat malformed lists as empty', async () => {
    const { api } = server([200, { documents: 'x' }]);
    expect(await api.documents()).toEqual({ documents: [], invites: [] });
  });
});

describe('a token that is no longer accepted', () => {
  const UNKNOWN: Answer = [401, { errcode: 'M_UNKNOWN_TOKEN' }];

  it('is renewed once, and the request sent again', async () => {
    const renewed: string[] = [];
    const tokens: Tokens = { token: async () => 'old', renew: async (failed) => (renewed.push(failed), 'new') };
    const { api, sent } = server((one) => (tokenOf(one) === 'Bearer new' ? [200, { documents: [] }] : UNKNOWN), tokens);
    await api.documents();
    expect(renewed).toEqual(['old']);
    expect(sent.map(tokenOf)).toEqual(['Bearer old', 'Bearer new']);
  });

  it('is renewed only once', async () => {
    const { api, sent } = server(UNKNOWN, { token: async () => 'old', renew: async () => 'new' });
    expect((await failureOf(api.documents())).isSignedOut).toBe(true);
    expect(sent).toHaveLength(2);
  });

  it('is not renewed when it came with the request, nor when a password is wrong', async () => {
    const renew = async () => expect.unreachable();
    const own = server(UNKNOWN, { token: async () => 'old', renew });
    expect((await failureOf(own.api.whoAmI('other'))).isSignedOut).toBe(true);
    const wrong = server([401, { errcode: 'M_FORBIDDEN', flows: [] }], { token: async () => 'old', renew });
    expect((await failureOf(wrong.api.documents())).isSignedOut).toBe(false);
  });

  it('refreshing tells a refusal from a server that does not answer', async () => {
    expect(await server(UNKNOWN).api.refresh('r')).toBeNull();
    expect((await failureOf(server([503, {}]).api.refresh('r'))).status).toBe(503);
    const good = server([200, { access_token: 't2', expires_in_ms: 10 }]);
    expect(await good.api.refresh('r', 1)).toEqual({ token: 't2', refreshToken: null, expiresAt: 11 });
  });
});

describe('access to a document that is not open', () => {
  const NONE = { documents: [], invites: [] };
  const respond = (summary: Answer, invites: unknown[] = []) =>
    server(({ url }) => {
      if (url.endsWith('/documents')) return [200, { ...NONE, invites }];
      if (url.includes('/directory/')) return [200, { room_id: '!r' }];
      return summary;
    }).api;

  it('is an invitation where there is one, by id and by alias', async () => {
    const invitation = { docId: '!r', title: 'T', inviter: '@a:b' };
    for (const id of ['!r', '#alias:b']) {
      expect(await respond([404, {}], [invitation]).access(id)).toEqual({ kind: 'invited', invitation });
    }
  });

  it.each<[string, Answer]>([
    ['knock', [200, { join_rule: 'knock' }]],
    ['knock', [200, { join_rule: 'knock_restricted' }]],
    ['asked', [200, { join_rule: 'knock', membership: 'knock' }]],
    ['public', [200, { join_rule: 'public' }]],
    ['none', [200, { join_rule: 'invite' }]],
    ['none', [404, { errcode: 'M_NOT_FOUND' }]],
    ['none', [403, { errcode: 'M_FORBIDDEN' }]],
    ['unknown', [404, { errcode: 'M_UNRECOGNIZED' }]],
  ])('is %s for %j', async (kind, summary) => expect((await respond(summary).access('!r')).kind).toBe(kind));

  it('is not decided by a server that fails', async () => {
    expect((await failureOf(respond([502, {}]).access('!r'))).status).toBe(502);
  });
});

describe('failures', () => {
  const invite = { doing: 'invite @bob:far.example', partner: 'far.example' };

  it('keep the code and the waiting time, from the body or the header', async () => {
    const limited = await failureOf(server([429, { errcode: 'M_LIMIT_EXCEEDED', error: 'slow', retry_after_ms: 2100 }]).api.documents());
    expect([limited.status, limited.code, limited.retryAfterMs]).toEqual([429, 'M_LIMIT_EXCEEDED', 2100]);
    expect(failureText(limited, { doing: 'x' })).toBe('Too many attempts. Try again in 3 seconds.');
    expect((await failureOf(server([429, {}, { 'Retry-After': '600' }]).api.documents())).retryAfterMs).toBe(600_000);
    expect(failureText(new ApiError(429, '', '', 600_000), { doing: 'x' })).toContain('10 minutes');
  });

  it('come from answers that are no JSON too', async () => {
    const error = await failureOf(server([502, '<html>bad gateway</html>']).api.documents());
    expect([error.status, error.code]).toEqual([502, 'M_UNKNOWN']);
    expect(failureText(error, { doing: 'list your documents' })).toBe('Couldn’t list your documents: the server has a problem. Try again in a moment.');
  });

  it('come from a server that does not answer', async () => {
    const api = new Api(BASE, FIXED, () => Promise.reject(new TypeError('failed to fetch')));
    const error = await failureOf(api.documents());
    expect(error.status).toBe(0);
    expect(failureText(error, { doing: 'x' })).toContain('can’t be reached');
  });

  it('name the other server when that one did not answer, and the own one otherwise', () => {
    for (const status of [502, 504]) {
      expect(failureText(new ApiError(status, 'M_UNKNOWN', 'raw'), invite)).toBe('Couldn’t invite @bob:far.example: far.example isn’t responding. Try again later.');
    }
    expect(failureText(new ApiError(503, 'M_UNKNOWN', 'raw'), invite)).toContain('the server has a problem');
    expect(failureText(new ApiError(502, 'M_UNKNOWN', 'raw'), { doing: 'invite @bob:here', partner: '' })).toContain('the server has a problem');
    expect(failureText(new ApiError(404, 'M_NOT_FOUND', 'raw'), invite)).toContain('doesn’t know');
  });

  it('give the server’s reason for a refusal as a sentence', () => {
    expect(failureText(new ApiError(403, 'M_FORBIDDEN', 'The last owner stays'), { doing: 'x' })).toBe('Couldn’t x: The last owner stays.');
    expect(failureText(new ApiError(400, 'M_UNKNOWN', 'y'.repeat(400)), { doing: 'x' })).toBe('Couldn’t x: the server refused.');
    expect(failureText(new ApiError(404, 'M_NOT_FOUND', ''), { doing: 'x' })).toContain('no longer exists');
    expect(failureReason(new ApiError(413, 'M_TOO_LARGE', ''))).toBe('It is too large.');
    expect(failureReason(new ApiError(429, 'M_LIMIT_EXCEEDED', '', 1000))).toBe('Too many attempts. Try again in 1 second.');
  });

  it('tell an ended session from a wrong password', () => {
    expect(new ApiError(401, 'M_UNKNOWN_TOKEN', '').isSignedOut).toBe(true);
    for (const [status, code] of [[403, 'M_FORBIDDEN'], [401, 'M_FORBIDDEN'], [401, 'M_UNAUTHORIZED']] as const) {
      expect(new ApiError(status, code, '').isSignedOut).toBe(false);
    }
    expect(signInText(new ApiError(403, 'M_FORBIDDEN', ''))).toBe('Wrong user name or password.');
    expect(signInText(new ApiError(403, 'M_USER_DEACTIVATED', ''))).toContain('deactivated');
    expect(signInText(new ApiError(403, 'M_FORBIDDEN', 'Closed'), 'create the account')).toBe('Couldn’t create the account: Closed.');
    expect(signInText(new ApiError(400, 'M_USER_IN_USE', ''), 'create the account')).toContain('taken');
    expect(signInText(new ApiError(400, 'M_INVALID_USERNAME', ''), 'create the account')).toContain('lower-case');
    expect(signInText(new ApiError(400, 'M_WEAK_PASSWORD', 'Use at least 8 characters'), 'create the account')).toBe('Use at least 8 characters.');
  });
});

describe('the place of the page', () => {
  it.each([
    ['https://a.example/', 'https://a.example/', ''],
    ['https://a.example/index.html?x#/d/y', 'https://a.example/', ''],
    ['https://a.example/weft/', 'https://a.example/weft/', ':/weft/'],
    ['https://a.example:8448/a/b/index.html#token=x', 'https://a.example:8448/a/b/', ':/a/b/'],
  ])('of %s is %s', (href, base, storageSuffix) => expect(placeOf(href)).toEqual({ base, storageSuffix }));
});
