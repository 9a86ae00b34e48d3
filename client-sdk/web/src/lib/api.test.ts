// Requests go where they should with the token in the header, and each failure becomes words.
import { describe, expect, it } from 'vitest';
import { Api, ApiError, inWords, signInWords } from './api';

interface Sent {
  url: string;
  init: RequestInit;
}

function server(status: number, body: unknown, headers: Record<string, string> = {}) {
  const sent: Sent[] = [];
  const api = new Api(
    () => 'secret',
    async (url, init) => {
      sent.push({ url, init });
      return new Response(typeof body === 'string' ? body : JSON.stringify(body), { status, headers });
    },
  );
  return { api, sent };
}

async function failureOf(work: Promise<unknown>): Promise<ApiError> {
  const error: unknown = await work.then(
    () => null,
    (failure: unknown) => failure,
  );
  expect(error).toBeInstanceOf(ApiError);
  return error as ApiError;
}

describe('requests', () => {
  it('name rooms and users percent-encoded, and carry the token in the header alone', async () => {
    const { api, sent } = server(200, {});
    await api.setRole('!r/o?m:x', '@b:y:1', 'viewer');
    expect(sent[0]?.url).toBe('/_weft/client/v1/documents/!r%2Fo%3Fm%3Ax/members/%40b%3Ay%3A1');
    expect(sent[0]?.init.method).toBe('PUT');
    expect(sent[0]?.init.body).toBe('{"role":"viewer"}');
    expect((sent[0]?.init.headers as Record<string, string>)['Authorization']).toBe('Bearer secret');
  });

  it('turn a login into a session', async () => {
    const { api } = server(200, { user_id: '@a:b', device_id: 'D', access_token: 't' });
    expect(await api.signIn(' a ', 'p')).toEqual({ userId: '@a:b', deviceId: 'D', token: 't' });
  });

  it('take an answer without its fields for a failure of the server', async () => {
    const { api } = server(200, { user_id: '@a:b' });
    expect((await failureOf(api.signIn('a', 'p'))).status).toBe(502);
  });

  it('take lists that are none for empty ones', async () => {
    const { api } = server(200, { documents: 'x' });
    expect(await api.documents()).toEqual({ documents: [], invites: [] });
  });
});

describe('failures', () => {
  it('keep the code and the waiting time, from the body or the header', async () => {
    const limited = await failureOf(server(429, { errcode: 'M_LIMIT_EXCEEDED', error: 'slow', retry_after_ms: 2100 }).api.documents());
    expect([limited.status, limited.code, limited.retryAfterMs]).toEqual([429, 'M_LIMIT_EXCEEDED', 2100]);
    expect(inWords(limited, 'x')).toContain('3 seconds');
    expect((await failureOf(server(429, {}, { 'Retry-After': '1' }).api.documents())).retryAfterMs).toBe(1000);
  });

  it('come from answers that are no JSON too', async () => {
    const error = await failureOf(server(502, '<html>bad gateway</html>').api.documents());
    expect([error.status, error.code]).toEqual([502, 'M_UNKNOWN']);
    expect(inWords(error, 'list your documents')).toContain('has a problem');
  });

  it('come from a server that does not answer', async () => {
    const api = new Api(
      () => null,
      () => Promise.reject(new TypeError('failed to fetch')),
    );
    const error = await failureOf(api.documents());
    expect(error.status).toBe(0);
    expect(inWords(error, 'x')).toContain('can’t be reached');
  });

  it('tell an ended session from a wrong password', () => {
    expect(new ApiError(401, 'M_UNKNOWN_TOKEN', '').isSignedOut).toBe(true);
    expect(new ApiError(403, 'M_FORBIDDEN', '').isSignedOut).toBe(false);
    expect(signInWords(new ApiError(403, 'M_FORBIDDEN', ''))).toBe('The name or the password is wrong.');
    expect(signInWords(new ApiError(401, 'M_UNKNOWN_TOKEN', ''))).toContain('no longer valid');
    expect(signInWords(new ApiError(403, 'M_USER_DEACTIVATED', ''))).toContain('deactivated');
  });
});
