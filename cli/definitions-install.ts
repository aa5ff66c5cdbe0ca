/** Commands that `install.sh` and the build start, and few people type; see `definitions.ts`. */
import type { Definition } from './definition.ts';

/** `kaon completion`: for a shell that is set up by hand; `install.sh` puts files where shells look for them. */
export const COMPLETION: Definition = {
  usage: 'completion <shell>',
  summary: 'completion for bash, zsh or fish, to be sourced',
  options: [],
  isHidden: true,
  action: async (_raw, _connection, [shell = '']) => {
    const { completionFor } = await import('./completion.ts');
    process.stdout.write(completionFor(shell));
    return 0;
  },
};

/** `kaon check-redis`: what `install.sh` asks before it changes anything. */
export const CHECK_REDIS: Definition = {
  usage: 'check-redis',
  summary: 'whether Redis can be reached, and is fit for a cluster',
  options: [],
  isHidden: true,
  action: async (_raw, connection) => {
    const { checkRedis } = await import('./commands/check-redis.ts');
    return checkRedis(connection);
  },
};
