// Registration and password change go through the stages that the server asks for, and no further.
import { describe, expect, it } from 'vitest';
import { WrongPassword, WrongToken, changePassword, register, registration } from './account';
import { Api, ApiError, type Json } from './api';

const TOKENS = { token: async () => 'secret', renew: async () => null };
const SESSION = { user_id: '@new:b', device_id: 'D', access_token: 't', refresh_token: 'r', expires_in_ms: 1000 };

/** A server with one flow; `proof` tells whether a stage's proof is right. */
function server(stages: string[], proof: (auth: Json) => boolean = () => true, answer: Json = SESSION) {
  const bodies: Json[] = [];
  const done: string[] = [];
  const api = new Api('https://x/', TOKENS, async (_url, init) => {
    const body = JSON.parse(String(init.body)) as Json;
    bodies.push(body);
    const auth = body['auth'] as Json | undefined;
    const right = auth && auth['session'] === 'S' && auth['type'] === stages[done.length] && proof(auth);
    if (right) done.push(String(auth['type']));
    if (done.length === stages.length) return new Response(JSON.stringify(answer));
    const errcode = auth && !right ? 'M_FORBIDDEN' : 'M_UNAUTHORIZED';
    return new Response(JSON.stringify({ errcode, flows: [{ stages }], completed: done, session: 'S', params: {} }), { status: 401 });
  });
  return { api, bodies };
}

const failing = (status: number, body: Json) => new Api('https://x/', TOKENS, async () => new Response(JSON.stringify(body), { status }));
const DUMMY = 'm.login.dummy';
const TOKEN = 'm.login.registration_token';
const NEW = { userName: ' New ', password: 'correct horse', token: 'let-me-in' };

describe('what registering takes', () => {
  it.each([
    ['open', [DUMMY]],
    ['token', [TOKEN]],
    ['token', [TOKEN, DUMMY]],
    ['other', ['m.login.recaptcha']],
    ['other', [DUMMY, 'm.login.email.identity']],
  ])('is %s for %j', async (kind, stages) => {
    const { api, bodies } = server(stages);
    expect(await registration(api)).toBe(kind);
    expect(bodies).toEqual([{}]);
  });

  it('is nothing where it is closed, and not known without an answer', async () => {
    expect(await registration(failing(403, { errcode: 'M_FORBIDDEN' }))).toBe('closed');
    await expect(registration(failing(503, {}))).rejects.toBeInstanceOf(ApiError);
  });
});

describe('registering', () => {
  it.each([[[DUMMY]], [[TOKEN]], [[TOKEN, DUMMY]]])('goes through %j and gives a session', async (stages) => {
    const { api, bodies } = server(stages, (auth) => auth['type'] === DUMMY || auth['token'] === 'let-me-in');
    expect(await register(api, NEW, 5)).toEqual({ userId: '@new:b', deviceId: 'D', token: 't', refreshToken: 'r', expiresAt: 1005 });
    expect(bodies).toHaveLength(stages.length + 1);
    for (const body of bodies) expect(body).toMatchObject({ username: 'new', password: 'correct horse', refresh_token: true });
  });

  it('ends at a wrong token instead of trying on', async () => {
    const { api, bodies } = server([TOKEN], () => false);
    await expect(register(api, NEW)).rejects.toBeInstanceOf(WrongToken);
    expect(bodies).toHaveLength(2);
  });

  it('ends where there is no flow that it knows, or no stages at all', async () => {
    await expect(register(server(['m.login.recaptcha']).api, NEW)).rejects.toBeInstanceOf(ApiError);
    await expect(register(server([TOKEN]).api, { ...NEW, token: '' })).rejects.toBeInstanceOf(ApiError);
    await expect(register(failing(400, { errcode: 'M_USER_IN_USE' }), NEW)).rejects.toMatchObject({ code: 'M_USER_IN_USE' });
    await expect(register(failing(401, { flows: ['x', null, { stages: 5 }] }), NEW)).rejects.toBeInstanceOf(Error);
  });
});

describe('a new password', () => {
  const change = { userId: '@a:b', current: 'old', next: 'new', signOutOthers: true };

  it('is set with the current one as proof', async () => {
    const { api, bodies } = server(['m.login.password'], (auth) => auth['password'] === 'old', {});
    await changePassword(api, change);
    expect(bodies[0]).toEqual({ new_password: 'new', logout_devices: true });
    expect(bodies[1]?.['auth']).toMatchObject({ identifier: { type: 'm.id.user', user: '@a:b' }, session: 'S' });
  });

  it('is not set with a wrong one', async () => {
    const { api } = server(['m.login.password'], () => false);
    await expect(changePassword(api, change)).rejects.toBeInstanceOf(WrongPassword);
  });
});
