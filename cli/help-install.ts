/** Help texts of the commands for `install.sh`; see `help.ts`. */
import type { CommandHelp } from './command-help.ts';

/** By the names of the commands. */
export const INSTALL_HELP: Readonly<Record<string, CommandHelp>> = {
  completion: {
    description: `Prints completion for a shell. install.sh puts it where shells look for it; by
hand: source <(kaon completion bash).`,
    syntax: 'bash|zsh|fish',
    after: '',
  },
  'check-redis': {
    description: `Says in a line what Redis is, and in further ones what speaks against it.
install.sh asks this before it changes anything.`,
    syntax: '[options]',
    after: `
Exit code: 0 it can be used; 4 it cannot be reached; 78 it is not fit.
`,
  },
};
