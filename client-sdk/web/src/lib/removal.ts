// Removing a member, taking back an invitation and declining a request are the same API request, with different texts
// in the confirmation and afterwards.
import type { Member } from './api';

export interface RemovalText {
  readonly title: string;
  readonly text: string;
  readonly action: string;
  /** To follow "Couldn’t". */
  readonly doing: string;
  readonly done: string;
}

/** `name` is shown, `server` is the member's own server if it is another one. */
export function removalText({ membership, userId }: Member, name: string, server: string): RemovalText {
  switch (membership) {
    case 'join':
      return {
        title: `Remove ${name}?`,
        text: `${userId} loses access at once.${server ? ` ${server} keeps the copy that it has.` : ''}`,
        action: 'Remove',
        doing: `remove ${userId}`,
        done: `${name} has been removed.`,
      };
    case 'invite':
      return {
        title: 'Take back the invitation?',
        text: `${userId} can no longer accept it.`,
        action: 'Take back',
        doing: 'take back the invitation',
        done: `${name} is no longer invited.`,
      };
    case 'knock':
      return {
        title: 'Decline the request?',
        text: `${userId} doesn’t get access.`,
        action: 'Decline',
        doing: 'decline the request',
        done: `The request of ${name} has been declined.`,
      };
  }
}
