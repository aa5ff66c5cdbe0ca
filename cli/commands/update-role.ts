/** `kaon quota set`, `kaon quota remove`, `kaon weight set`: a word to the master, and what it has made of it. */
import type { MessageOf } from '../../protocol/messages.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import type { ConnectionOptions } from '../options.ts';
import { request } from '../request.ts';

/** What is wished of a role. */
export type RoleWish = Omit<MessageOf<'UpdateRole'>, 'type' | 'requestId'>;

/** @returns the exit code @throws as `request` */
export async function updateRole(options: ConnectionOptions, wish: RoleWish): Promise<number> {
  const { message = '' } = await withStore(options, { name: 'role' }, (store) =>
    request(store, {
      message: (requestId) => ({ type: 'UpdateRole', requestId, ...wish }),
      what: `change role ${wish.role}`,
      refusal: 'role.refused',
    }),
  );
  process.stdout.write(`role ${wish.role}: ${message}\n`);
  return EXIT_OK;
}
