// Registration and password change, by Matrix' user-interactive authentication with the stages that this page supports
// (dummy, registration token, password).
import { type Api, ApiError, DEVICE_NAME, type Json, MATRIX, sessionOf } from './api';
import type { Session } from './session';

/** What registration requires. `other`: stages that this page doesn't support. */
export type Registration = 'closed' | 'open' | 'token' | 'other';

const DUMMY = 'm.login.dummy';
const TOKEN = 'm.login.registration_token';
const PASSWORD = 'm.login.password';
/** Limit for a server that never stops asking for stages. */
const MAX_STAGES = 8;

/** Learns what registration requires: the answer to an empty request has the stages, or is 403. */
export async function registration(api: Api): Promise<Registration> {
  try {
    await api.request('POST', `${MATRIX}/register`, {}, null);
  } catch (error) {
    const stages = flowsOf(error);
    if (stages) return kindOf(stages);
    if (error instanceof ApiError && error.isPassing) throw error;
  }
  return 'closed';
}

function kindOf(flows: readonly (readonly string[])[]): Registration {
  const only = (allowed: readonly string[]) => flows.some((stages) => stages.every((stage) => allowed.includes(stage)));
  if (only([DUMMY])) return 'open';
  return only([DUMMY, TOKEN]) ? 'token' : 'other';
}

export interface NewAccount {
  readonly userName: string;
  readonly password: string;
  readonly token: string;
}

/** The registration token was refused. */
export class WrongToken extends Error {}
/** The current password was refused. */
export class WrongPassword extends Error {}

/** Registers and signs in. */
export async function register(api: Api, { userName, password, token }: NewAccount, now = Date.now()): Promise<Session> {
  const body = {
    username: userName.trim().toLowerCase(),
    password,
    initial_device_display_name: DEVICE_NAME,
    refresh_token: true,
  };
  const answer = await interactive(
    (auth) => api.request('POST', `${MATRIX}/register`, { ...body, ...auth }, null),
    { [DUMMY]: {}, ...(token && { [TOKEN]: { token } }) },
    () => new WrongToken(),
  );
  return sessionOf(answer, now);
}

export interface PasswordChange {
  readonly userId: string;
  readonly current: string;
  readonly next: string;
  readonly signOutOthers: boolean;
}

export async function changePassword(api: Api, { userId, current, next, signOutOthers }: PasswordChange): Promise<void> {
  const body = { new_password: next, logout_devices: signOutOthers };
  const proof = { identifier: { type: 'm.id.user', user: userId }, password: current };
  await interactive(
    (auth) => api.request('POST', `${MATRIX}/account/password`, { ...body, ...auth }),
    { [PASSWORD]: proof },
    () => new WrongPassword(),
  );
}

/** Sends the request, and again for each stage that the server requires. A stage that is required twice was refused. */
async function interactive(send: (auth: Json) => Promise<Json>, proofs: Record<string, Json>, refused: () => Error): Promise<Json> {
  let auth: Json = {};
  const sent = new Set<string>();
  for (let round = 0; round <= MAX_STAGES; round += 1) {
    try {
      return await send(auth);
    } catch (error) {
      const flows = flowsOf(error);
      if (!flows || !(error instanceof ApiError)) throw error;
      const done = strings(error.answer['completed']);
      const flow = flows.find((stages) => stages.every((stage) => stage in proofs)) ?? [];
      const stage = flow.find((name) => !done.includes(name));
      if (!stage || sent.has(stage)) throw flow.length > 0 ? refused() : error;
      sent.add(stage);
      auth = { auth: { type: stage, session: error.answer['session'], ...proofs[stage] } };
    }
  }
  throw refused();
}

/** The stages of a 401 of interactive authentication; null when the error is something else. */
function flowsOf(error: unknown): string[][] | null {
  if (!(error instanceof ApiError) || error.status !== 401 || !Array.isArray(error.answer['flows'])) return null;
  return error.answer['flows'].map((flow: unknown) => strings((flow as Json | null)?.['stages']));
}

function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}
