import { execFileSync } from 'node:child_process';
import { describe, expect, test } from '@jest/globals';
import { commandTree, withSubcommands } from '../../../cli/command-tree.ts';
import { completionFor } from '../../../cli/completion.ts';

/** What bash would offer after these words; the last one is being typed. */
function offered(...words: string[]): string[] {
  const script = `${completionFor('bash')}
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _kaon; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const out = execFileSync('bash', ['-c', script, 'bash', ...words], { encoding: 'utf8' });
  return out.trim().split('\n');
}

describe('completion for bash', () => {
  test('offers the commands, and those under a command', () => {
    expect(offered('kaon', 'ta')).toEqual(['tasks', 'task']);
    expect(offered('kaon', 'task', 're')).toEqual(['resize']);
    expect(offered('kaon', '--cluster', 'x', 'bullmq', 'can')).toEqual(['cancel']);
  });

  test('offers the flags of the command that is typed, and not those of others', () => {
    expect(offered('kaon', 'run', '--inst')).toEqual(['--instances']);
    expect(offered('kaon', 'logs', '--inst')).toEqual(['']);
    expect(offered('kaon', 'status', '--clus')).toEqual(['--cluster']);
  });

  test('offers what a flag may be, and nothing where only the user knows', () => {
    expect(offered('kaon', 'master', '--log-level', '')).toEqual([
      'debug',
      'info',
      'warn',
      'error',
    ]);
    expect(offered('kaon', 'submit', '--standby', '')).toEqual(['yes', 'no']);
    expect(offered('kaon', 'bullmq', '--config', '/etc/passw')).toContain('/etc/passwd');
    expect(offered('kaon', 'run', '--name', '')).toEqual(['']);
  });

  test('leaves what is after -- to the shell', () => {
    expect(offered('kaon', 'run', '--', 'ls', '--al')).toEqual(['']);
  });
});

test.each(['bash', 'zsh', 'fish'])('completion for %s knows every command and flag', (shell) => {
  const text = completionFor(shell);
  for (const node of commandTree().flatMap(withSubcommands)) {
    expect(text).toContain(node.path.at(-1));
    for (const name of node.flags.flatMap(({ names }) => names))
      expect(text).toContain(shell === 'fish' ? name.replace(/^-+/, '') : name);
  }
});

test('another shell is refused in words', () => {
  expect(() => completionFor('tcsh')).toThrow('there is no completion for tcsh');
});
