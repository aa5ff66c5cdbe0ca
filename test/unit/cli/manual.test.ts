import { describe, expect, test } from '@jest/globals';
import { commandTree, withSubcommands } from '../../../cli/command-tree.ts';
import { manualPages } from '../../../cli/manual.ts';

const PAGES = new Map(manualPages('1.2.3').map(({ path, text }) => [path, text]));

function page(path: string): string {
  return PAGES.get(path) ?? '';
}

describe('manual pages', () => {
  test('are there for every command of the help; daemons are in section 8', () => {
    const names = commandTree()
      .flatMap(withSubcommands)
      .map(({ path }) => ['kaon', ...path].join('-'));
    const found = [...PAGES.keys()].map((path) => path.replace(/^man\/|\.[18]$/g, ''));
    expect(found).toEqual(['kaon', ...names]);
    const services = [...PAGES.keys()].filter((path) => path.endsWith('.8'));
    expect(services.sort()).toEqual([
      'man/kaon-agent.8',
      'man/kaon-bullmq.8',
      'man/kaon-master.8',
      'man/kaon-step-down.8',
    ]);
  });

  test('have name, synopsis, description, flags and exit codes of the help', () => {
    const text = page('man/kaon-gone.1');
    expect(text).toMatch(/^\.TH KAON\\-GONE 1 "" "kaon 1\.2\.3" "Kaon"\n/);
    expect(text).toContain('.SH NAME\nkaon\\-gone \\- say that a node will not come back');
    expect(text).toContain('.SH SYNOPSIS\n.B kaon gone\n[options] AGENT\n');
    expect(text).toContain('.TP\n.B \\-\\-force\n');
    expect(text).toContain('.SH EXAMPLES\n.nf\n  kaon gone node7\n');
    expect(text).toMatch(/\.SH EXIT STATUS\n0 it is gone/);
    expect(text).toContain('.SH SEE ALSO\n.BR kaon (1)');
  });

  test('name the pages under them, and the one above', () => {
    expect(page('man/kaon-task.1')).toContain('.BR kaon\\-task\\-resize (1)\n');
    expect(page('man/kaon-task-resize.1')).toContain('.BR kaon\\-task (1)\n');
  });

  test('have no line that roff would take for a request of its own', () => {
    const requests = /^\.(TH|SH|SS|TP|PP|B|I|BR|nf|fi|nh|ad l)( |$)/;
    const lines = [...PAGES.values()].flatMap((text) => text.split('\n'));
    expect(lines.filter((line) => /^[.']/.test(line) && !requests.test(line))).toEqual([]);
    expect(lines.filter((line) => /\\(?![-e&(])/.test(line))).toEqual([]);
  });
});
