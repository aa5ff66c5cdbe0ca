/** Help texts of the commands about configuration files; see `help.ts`. */
import type { CommandHelp } from './command-help.ts';

/** By the names of the commands. */
export const CONFIG_HELP: Readonly<Record<string, CommandHelp>> = {
  config: {
    description: `The files /etc/kaon/master.toml, agent.toml and bullmq.toml have the settings of
the daemons, by the names of their flags. A flag overrides a variable of the
environment, that the file, and that the default.`,
    syntax: 'COMMAND ...',
    after: `
A file, for kaon agent:
  redis = "redis://kaon-agent@10.0.0.5:6379"   # --redis
  log-level = "info"                           # --log-level
  reserve = { cpus = 0.5, mem = "1G" }         # --reserve cpus=0.5,mem=1G
  [attribute]                                  # --attribute rack=a1
  rack = "a1"

Secrets are no settings: they are files in /etc/kaon/credentials/DAEMON.
`,
  },
  'config check': {
    description: `Reads the file of a daemon, or of all, as the daemon would, and says everything
that is wrong with it: FILE:LINE: what. systemctl reload does so first, and
fails with these words.`,
    syntax: '[options] [master|agent|bullmq]',
    after: `
Exit code: 0 all is well; 78 something is wrong; 2 there is no such file.
`,
  },
  'config show': {
    description: `The settings that a daemon would start with, and where each value comes from:
a variable of the environment, a line of the file, or the default. Passwords
are not shown.`,
    syntax: '[options] master|agent|bullmq',
    after: `
Exit code: 0, or 78 if something is wrong, which is told after the settings.
`,
  },
};
