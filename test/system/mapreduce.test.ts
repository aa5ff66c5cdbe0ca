/** The MapReduce of examples/mapreduce on real nodes: its counts are those of sort and uniq, whatever ends in the middle. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { assert as check, property, array, integer, string } from 'fast-check';
import { bedReason } from '../beds/available.ts';
import { bootUnitsNode, execLine, type UnitsNode } from '../beds/cluster-units.ts';
import { KAON, startCommand, TREE, until, type Running } from '../beds/cluster.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';

const EXAMPLE = resolve('examples/mapreduce');
const AGENT = 'kaon-agent.service';
const AGENT_IDS = ['node-1', 'node-2'];
/** So long the master waits for a node that says nothing. */
const AGENT_TIMEOUT = '20s';

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'kaon-mapreduce-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

/** A node that can lose its power. */
interface Node {
  readonly agentId: string;
  readonly units: UnitsNode;
}

interface Bed {
  readonly redis: RedisBed;
  readonly nodes: Map<string, Node>;
  /** Starts the node, or starts it again after `end`. */
  boot(agentId: string): Promise<void>;
  /** As a power cut ends it: the agent, and everything that it has started. */
  end(agentId: string): Promise<void>;
  /** States of all tasks that live or have lived, by their ids. */
  tasks(): Promise<Map<string, string>>;
  stop(): Promise<void>;
}

async function startBed(resources: Readonly<Record<string, string>>): Promise<Bed> {
  const home = mkdtempSync(join(tmpdir(), 'kaon-mapreduce-bed-'));
  const redis = await startRedisBed();
  const kaon = [process.execPath, KAON];
  const connect = ['--redis', redis.url];
  const argv = [...kaon, 'master', ...connect, '--agent-timeout', AGENT_TIMEOUT];
  const master = startCommand(['setpriv', '--pdeathsig', 'KILL', ...argv]);
  const nodes = new Map<string, Node>();
  const kaonJson = async (...args: string[]): Promise<unknown[]> => {
    const { stdout, exitCode } = await startCommand([...kaon, ...args, '--json', ...connect]).ended;
    return exitCode === 0 ? (JSON.parse(stdout) as unknown[]) : [];
  };
  const active = async (): Promise<string[]> => {
    const agents = (await kaonJson('agents')) as { info: { agentId: string }; state: string }[];
    return agents.filter(({ state }) => state === 'active').map(({ info }) => info.agentId);
  };
  return {
    redis,
    nodes,
    tasks: async () => {
      const tasks = (await kaonJson('tasks', '--all')) as { taskId: string; state: string }[];
      // Of tasks with one id, those of earlier jobs come later.
      return new Map(tasks.reverse().map(({ taskId, state }) => [taskId, state]));
    },
    boot: async (agentId) => {
      const state = join(home, agentId);
      mkdirSync(state, { recursive: true });
      const units = await bootUnitsNode(state);
      nodes.set(agentId, { agentId, units });
      const agent = [...kaon, 'agent', ...connect, '--agent-id', agentId];
      agent.push('--state-dir', join(state, 'state'), '--resources', resources[agentId] ?? '');
      // Inputs and results are in directories of the tests, and Redis beside them.
      agent.push('--expose', tmpdir(), '--expose', TREE, '--task-user', 'root', '--allow-root');
      const lines = ['[Service]', 'ExecStart=', `ExecStart=${execLine(agent)}`];
      const log = `append:${join(state, 'agent.log')}`;
      lines.push(`StandardOutput=${log}`, `StandardError=${log}`, 'RestartSec=100ms', '');
      await units.install(AGENT, lines.join('\n'));
      await units.systemctl('start', AGENT);
      await until(async () => (await active()).includes(agentId));
    },
    end: async (agentId) => {
      await nodes.get(agentId)?.units.stop();
      nodes.delete(agentId);
    },
    stop: async () => {
      await Promise.all([...nodes.values()].map(({ units }) => units.stop()));
      master.child.kill('SIGTERM');
      await master.ended;
      await redis.stop();
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** Text with words as often as those of a language are, the same for the same seed. */
function writeText(path: string, bytes: number, seed: number): void {
  const argv = [join(EXAMPLE, 'make-text.mjs'), String(bytes), String(seed)];
  writeFileSync(path, execFileSync(process.execPath, argv, { maxBuffer: 1 << 28 }));
}

/** What the tools of old make of it, one `word<tab>count` each, sorted. */
function countByShell(...paths: string[]): string[] {
  const script = String.raw`cat "$@" | tr -s '\t\n\v\f\r ' '\n' | sort | uniq -c`;
  const counted = execFileSync('sh', ['-c', script, 'sh', ...paths], {
    env: { ...process.env, LC_ALL: 'C' },
    encoding: 'latin1',
    maxBuffer: 1 << 28,
  });
  return counted
    .split('\n')
    .map((line) => /^ *(\d+) (.+)$/s.exec(line))
    .flatMap((match) => (match ? [`${match[2] ?? ''}\t${match[1] ?? ''}`] : []))
    .sort();
}

/** The results of a job, sorted; each part is sorted by itself. */
function results(output: string): string[] {
  const parts = readdirSync(output).filter((name) => name.startsWith('part-'));
  return parts
    .flatMap((name) => readFileSync(join(output, name), 'latin1').split('\n').slice(0, -1))
    .sort();
}

/**
 * A word count whose map (or reduce) processes each take a ticket when they begin their work, and go on when that many are
 * let through: so what has happened before a fault is the same on each machine.
 */
interface Gate {
  readonly program: string;
  /** Lets the first so many through. */
  allow(count: number): void;
  /** How many have come. */
  count(): number;
}

function createGate(home: string, kind: 'map' | 'reduce'): Gate {
  const gate = join(home, 'gate');
  mkdirSync(join(gate, 'tickets'), { recursive: true });
  const program = join(home, 'gated.mjs');
  writeFileSync(join(gate, 'allowed'), '0');
  writeFileSync(
    program,
    `
import { mkdirSync, readFileSync } from 'node:fs';
import * as wordcount from ${JSON.stringify(pathToFileURL(join(EXAMPLE, 'wordcount.mjs')).href)};
const gate = ${JSON.stringify(gate)};
let ticket = 0;
function pass() {
  if (ticket > 0) return;
  for (ticket = 1; ; ticket += 1) {
    try { mkdirSync(gate + '/tickets/' + ticket); break; } catch (error) { if (error.code !== 'EEXIST') throw error; }
  }
  const flag = new Int32Array(new SharedArrayBuffer(4));
  while (Number(readFileSync(gate + '/allowed', 'utf8')) < ticket) Atomics.wait(flag, 0, 0, 20);
}
export const { encoding, combine } = wordcount;
export function map(line, emit) { ${kind === 'map' ? 'pass();' : ''} wordcount.map(line, emit); }
export function reduce(word, counts, emit) { ${kind === 'reduce' ? 'pass();' : ''} wordcount.reduce(word, counts, emit); }
`,
  );
  return {
    program,
    allow: (count) => {
      // One write: a reader sees the old number or the new one.
      writeFileSync(join(gate, 'allowed'), String(count));
    },
    count: () => readdirSync(join(gate, 'tickets')).length,
  };
}

suite(`a MapReduce on two nodes${reason === undefined ? '' : ` (${reason})`}`, () => {
  let bed: Bed;
  const started: Running[] = [];

  beforeAll(async () => {
    // A reduce task of 1G finds room on the second one only.
    bed = await startBed({ 'node-1': 'cpus=2,mem=768M', 'node-2': 'cpus=2,mem=2G' });
    await Promise.all(AGENT_IDS.map((agentId) => bed.boot(agentId)));
  }, 240_000);
  afterEach(async () => {
    // One that a failed test has left ends its tasks, too.
    for (const { child } of started) child.kill('SIGTERM');
    await Promise.all(started.splice(0).map(({ ended }) => ended));
    for (const agentId of AGENT_IDS) if (!bed.nodes.has(agentId)) await bed.boot(agentId);
  }, 120_000);
  afterAll(async () => {
    await bed.stop();
  }, 120_000);

  /**
   * Traffic stays on this machine.
   *
   * @param words more options, with a space between them
   */
  function startJob(options: readonly string[], words = ''): Running {
    const argv = [
      join(EXAMPLE, 'job-tracker.mjs'),
      ...options,
      ...words.split(' ').filter(Boolean),
    ];
    argv.push('--shuffle-host', '127.0.0.1', '--output', join(directory, 'output'));
    const running = startCommand([process.execPath, ...argv], { KAON_REDIS: bed.redis.url });
    started.push(running);
    return running;
  }

  /** Waits for words of the job, which are not to be waited for any more if it has ended. */
  async function printed(job: Running, text: string): Promise<void> {
    await Promise.race([
      job.seen(text),
      job.ended.then(() => {
        throw new Error(`the job ended without "${text}": ${job.printed()}`);
      }),
    ]);
  }

  /** Two files of text. */
  function writeInputs(bytes: number): [string, string] {
    const paths: [string, string] = [join(directory, 'one.txt'), join(directory, 'two.txt')];
    paths.forEach((path, index) => {
      writeText(path, bytes / 2, index + 1);
    });
    return paths;
  }

  /** What a job has counted, when it has ended well. */
  async function countsOf(job: Running): Promise<string[]> {
    const { exitCode, stderr, stdout } = await job.ended;
    if (exitCode !== 0) throw new Error(`${stdout}${stderr}`);
    return results(join(directory, 'output'));
  }

  test('counts the words of a text, each split on a node that has it', async () => {
    const [one, two] = writeInputs(6_000_000);
    const inputs = ['--input', `${one}@node-1`, '--input', `${two}@elsewhere,node-2`];
    const job = startJob(inputs, '--map wordcount --reduces 3 --split 512K --locality-wait 600');
    expect(await countsOf(job)).toEqual(countByShell(one, two));
    expect(job.printed()).toContain('12 of 12 map tasks ran where their input is');
    expect(readdirSync(join(directory, 'output')).sort()).toEqual([
      '_SUCCESS',
      'part-00000',
      'part-00001',
      'part-00002',
    ]);
  }, 360_000);

  test('runs map tasks on any node when none that has the input comes', async () => {
    const [one] = writeInputs(200_000);
    const job = startJob(['--input', `${one}@nowhere`], '--map wordcount --locality-wait 0.5');
    expect(await countsOf(job)).toEqual(countByShell(one));
    expect(job.printed()).toContain('0 of 1 map tasks ran where their input is');
  }, 240_000);

  test('goes on when an agent dies alone, and counts right when everything of its node dies', async () => {
    const [one, two] = writeInputs(4_000_000);
    const gate = createGate(directory, 'map');
    gate.allow(4);
    const inputs = ['--input', one, '--input', two, '--map', gate.program];
    const job = startJob(inputs, '--split 350K --reduces 2');
    await printed(job, 'maps 4/12');
    await until(() => gate.count() === 8);

    // Two tasks hold on each node. The agent of the first is killed; they have to be what ends next.
    const { units } = bed.nodes.get('node-1') as Node;
    const pidOfAgent = (): Promise<string> =>
      units.systemctl('show', '--property=MainPID', '--value', AGENT);
    const before = await pidOfAgent();
    await units.systemctl('kill', '--signal=KILL', AGENT);
    gate.allow(8);
    await until(async () => !['0\n', before].includes(await pidOfAgent()));
    await printed(job, 'maps 8/12');
    expect(job.printed()).not.toMatch(/TASK_|again/);

    await until(() => gate.count() === 12);
    await bed.end('node-1');
    gate.allow(1000);
    expect(await countsOf(job)).toEqual(countByShell(one, two));
    expect(job.printed()).toMatch(/map-\d+\.0 on node-1: TASK_UNREACHABLE/);
    expect(job.printed()).toMatch(/map outputs could not be had: .*; \d+ map tasks run again/);
  }, 300_000);

  test('runs map tasks again whose outputs a reduce task cannot have', async () => {
    const [one] = writeInputs(2_000_000);
    const gate = createGate(directory, 'reduce');
    const input = ['--input', `${one}@node-1`, '--map', gate.program];
    // Reduce tasks run one at a time, and on the second node.
    const reduces = '--reduces 2 --reduce-cpus 1.5 --reduce-mem 1G';
    const job = startJob(input, `--split 250K --locality-wait 20 ${reduces}`);
    await until(() => gate.count() === 1);
    await bed.end('node-1');
    gate.allow(1000);
    expect(await countsOf(job)).toEqual(countByShell(one));
    expect(job.printed()).toMatch(
      /reduce-\d\.0: \d map outputs could not be had: .*; [1-4] map tasks run again/,
    );
  }, 300_000);

  test('takes nothing of a reduce task that was cut off and replaced, though it has finished', async () => {
    const [one] = writeInputs(1_000_000);
    const gate = createGate(directory, 'reduce');
    // One on each node.
    const job = startJob(['--input', one, '--map', gate.program], '--reduces 2 --reduce-cpus 1.5');
    await until(() => gate.count() === 2);
    const { units } = bed.nodes.get('node-1') as Node;
    await units.systemctl('stop', AGENT);
    await printed(job, 'on node-1: TASK_UNREACHABLE');
    const [, cutOff] = /(reduce-\d\.0) on node-1: TASK_UN/.exec(job.printed()) ?? [];
    gate.allow(2);
    await printed(job, 'reduces 1/2');
    // The replacement holds when the first attempt is back with its result.
    await until(() => gate.count() === 3);
    await units.systemctl('start', AGENT);
    await until(async () => (await bed.tasks()).get(cutOff ?? '') === 'TASK_FINISHED');
    gate.allow(3);
    expect(await countsOf(job)).toEqual(countByShell(one));
    expect(readdirSync(join(directory, 'output')).sort()).toEqual([
      '_SUCCESS',
      'part-00000',
      'part-00001',
    ]);
  }, 300_000);

  test('runs map tasks again whose outputs have gone with a TaskTracker', async () => {
    const [one] = writeInputs(2_000_000);
    const gate = createGate(directory, 'map');
    gate.allow(3);
    const job = startJob(['--input', one, '--map', gate.program], '--split 200K --reduces 2');
    await printed(job, 'maps 3/5');
    await until(() => gate.count() === 5);
    // On one node at least one has finished.
    for (const { units } of bed.nodes.values())
      await units.run('pkill', '-KILL', '-f', 'task-tracker.mjs');
    gate.allow(1000);
    expect(await countsOf(job)).toEqual(countByShell(one));
    expect(job.printed()).toMatch(/Lost executor task-tracker.*; \d map tasks run again/);
  }, 360_000);

  test.each([
    ['a file without anything', ''],
    [
      'lines that are longer than a split',
      `${'long '.repeat(60_000)}\nshort ${'x'.repeat(200_000)}`,
    ],
    [
      'bytes that are no text',
      Buffer.from(Array.from({ length: 100_000 }, (_, at) => (at * at * 7) >> 3)).toString(
        'latin1',
      ),
    ],
    ['fewer words than reduce tasks', 'one two two\r\n'],
  ])(
    'counts %s',
    async (_what, text) => {
      const path = join(directory, 'input');
      writeFileSync(path, text, 'latin1');
      const job = startJob(['--input', path], '--map wordcount --reduces 4 --split 64K');
      expect(await countsOf(job)).toEqual(countByShell(path));
      expect(readdirSync(join(directory, 'output'))).toHaveLength(5);
    },
    120_000,
  );

  test.each([
    [
      'a map function that throws',
      `export function map(line) { if (line.includes('two')) throw new TypeError('no twos, please'); }
       export function reduce() {}`,
      /map 0 has failed 2 times, at last: map failed at byte 4 of .*: TypeError: no twos, please/,
    ],
    [
      'a reduce function that throws',
      `export function map(line, emit) { emit(line, 1); }
       export function reduce(key) { throw null; }`,
      /reduce 0 has failed 2 times, at last: reduce failed at the key "one": null/,
    ],
    [
      'a program that takes all the memory',
      `const kept = [];
       export function map(line, emit) { for (;;) kept.push(new Array(100_000).fill(0)); }
       export function reduce() {}`,
      /map 0 has failed 2 times, at last: its process was ended by SIG/,
    ],
    ['a program without a reduce', 'export function map() {}', /exports no function reduce/],
    ['a program that is none', 'export function {', /cannot be loaded: Unexpected token/],
    [
      'a value that is no JSON',
      'export function map(line, emit) { emit(line); }\nexport function reduce() {}',
      /needs a value that is JSON, not undefined/,
    ],
  ])(
    'a job with %s fails, says why, and leaves nothing',
    async (_what, program, said) => {
      const path = join(directory, 'input');
      writeFileSync(path, 'one\ntwo\n');
      writeFileSync(join(directory, 'program.mjs'), program);
      const options = ['--input', path, '--map', join(directory, 'program.mjs')];
      const job = startJob(options, '--attempts 2');
      const { exitCode, stderr } = await job.ended;
      expect(exitCode).toBe(1);
      expect(stderr).toMatch(said);
      expect(readdirSync(join(directory, 'output'))).toEqual([]);
    },
    120_000,
  );

  test('with a cgroup for each task, one that takes too much memory dies alone, and the kernel is named', async () => {
    const path = join(directory, 'input');
    writeFileSync(path, 'one\ntwo\n');
    const program = join(directory, 'program.mjs');
    const gate = join(directory, 'gate');
    writeFileSync(
      program,
      `import { existsSync } from 'node:fs';
       const kept = [];
       const flag = new Int32Array(new SharedArrayBuffer(4));
       export function map(line, emit) {
         emit(line, 1);
         while (line === 'two' && !existsSync(${JSON.stringify(gate)})) Atomics.wait(flag, 0, 0, 20);
         while (line === 'two') kept.push(Buffer.alloc(1 << 20, 1));
       }
       export function reduce() {}`,
    );
    const job = startJob(['--input', path, '--map', program], '--split 4 --isolation task');
    // The other one has ended by then; with the job it would be ended, too.
    await printed(job, 'maps 1/2');
    writeFileSync(gate, '');
    expect((await job.ended).stderr).toMatch(
      /map 1 has failed 4 times, at last: killed by the kernel: memory limit 256M/,
    );
    expect(job.printed()).not.toContain('Lost executor');
  }, 240_000);

  test.each([
    ['travels', () => [join(EXAMPLE, 'wordcount.mjs')]],
    ['is fetched by each node', () => [pathToFileURL(join(EXAMPLE, 'wordcount.mjs')).href]],
    ['is there on each node', () => [join(EXAMPLE, 'wordcount.mjs'), '--installed']],
  ])(
    'a program %s',
    async (_how, named) => {
      const path = join(directory, 'input');
      writeFileSync(path, 'one two\ntwo');
      const job = startJob(['--input', path, '--map', ...named()]);
      expect(await countsOf(job)).toEqual(['one\t1', 'two\t2']);
    },
    120_000,
  );

  test('Ctrl-C ends the job, its tasks and its TaskTrackers', async () => {
    const [one] = writeInputs(200_000);
    const gate = createGate(directory, 'map');
    const job = startJob(['--input', one, '--map', gate.program]);
    await until(() => gate.count() === 1);
    job.child.kill('SIGINT');
    const { exitCode, stderr } = await job.ended;
    expect({ exitCode, stderr }).toEqual({
      exitCode: 1,
      stderr: 'the job has failed: it was ended by SIGINT\n',
    });
    for (const { units } of bed.nodes.values()) {
      await until(
        async () => (await units.run('pgrep', '-f', 'examples/mapreduce')).exitCode === 1,
      );
    }
  }, 240_000);

  test('an input that is not there, or an output that is, is refused before anything runs', async () => {
    const missing = startJob(['--input', join(directory, 'none')], '--map wordcount');
    expect(await missing.ended).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('there is no such file'),
    });
    mkdirSync(join(directory, 'output'));
    writeFileSync(join(directory, 'output', 'mine'), '');
    const full = startJob(['--input', import.meta.filename], '--map wordcount');
    expect(await full.ended).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('there is something in it'),
    });
    expect(existsSync(join(directory, 'output', 'mine'))).toBe(true);
  }, 120_000);

  test.each([
    ['--map wordcount', '--input is missing'],
    ['--input x --map nonsense', '--map nonsense: ENOENT'],
    ['--input x --map wordcount --reduces 0', '--reduces 0'],
    ['--input x --map wordcount --split 16X', '--split 16X'],
    ['--input x --map wordcount --map-cpus many', '--map-cpus many'],
    ['--nonsense', '--nonsense'],
  ])(
    '%s is refused with 2',
    async (words, said) => {
      const { exitCode, stderr } = await startJob([], words).ended;
      expect(exitCode).toBe(2);
      expect(stderr).toContain(said);
    },
    120_000,
  );
});

/** The parts that are data in and data out. */
interface Parts {
  linesIn(path: string, options: object): Iterable<string>;
  SortBuffer: new (options: object) => { emit(key: string, value: number): void; finish(): void };
  recordsIn(run: object): Iterator<[string, number]> & Iterable<[string, number]>;
  mergeRuns(runs: object[], directory: string): Iterable<[string, number]>;
}

async function importParts(): Promise<Parts> {
  const names = ['lines.mjs', 'sort-buffer.mjs', 'sorted.mjs'];
  const urls = names.map((name) => pathToFileURL(join(EXAMPLE, name)).href);
  const modules = (await Promise.all(urls.map((url) => import(url)))) as Partial<Parts>[];
  return Object.assign({}, ...modules) as Parts;
}

describe('the parts of a MapReduce', () => {
  test('each line belongs to exactly one split, however they cut the file', async () => {
    const { linesIn } = await importParts();
    const path = join(directory, 'text');
    const text = array(string({ unit: 'binary-ascii', maxLength: 12 }), { maxLength: 12 });
    check(
      property(
        text,
        integer({ min: 1, max: 40 }),
        integer({ min: 1, max: 9 }),
        (pieces, split, readBytes) => {
          const content = pieces.join('\n');
          writeFileSync(path, content);
          const lines: string[] = [];
          for (let start = 0; start < content.length; start += split) {
            const end = Math.min(content.length, start + split);
            lines.push(...linesIn(path, { start, end, readBytes, encoding: 'latin1' }));
          }
          const expected = content.split('\n');
          if (content === '' || content.endsWith('\n')) expected.pop();
          expect(lines).toEqual(expected);
        },
      ),
    );
  });

  test('a file that has become shorter than its splits is no input', async () => {
    const { linesIn } = await importParts();
    const path = join(directory, 'text');
    writeFileSync(path, 'one\n');
    const read = (): string[] => [...linesIn(path, { start: 0, end: 5, encoding: 'utf8' })];
    expect(read).toThrow('has 4 bytes, and should have 5 at least');
  });

  test('the output of a map task is the same however little memory it has', async () => {
    const { SortBuffer, recordsIn } = await importParts();
    const sum = (
      key: string,
      counts: Iterable<number>,
      emit: (k: string, v: number) => void,
    ): void => {
      let total = 0;
      for (const count of counts) total += count;
      emit(key, total);
    };
    const outputOf = (name: string, limitBytes: number): [string, number][] => {
      const home = join(directory, name);
      mkdirSync(home);
      const buffer = new SortBuffer({ directory: home, partitions: 3, combine: sum, limitBytes });
      for (let at = 0; at < 5000; at += 1)
        buffer.emit(`word-${String((at * at) % 701)}\n"\ud800é`, 1);
      buffer.finish();
      expect(readdirSync(home).sort()).toEqual(['0', '1', '2']);
      return ['0', '1', '2'].flatMap((partition) => {
        const path = join(home, partition);
        return [...recordsIn({ path, start: 0, end: readFileSync(path).length })];
      });
    };
    // A record at a time; about a hundred, in more runs than are merged at once; all.
    const [all, some, one] = [1e9, 20_000, 1].map((bytes, index) => outputOf(String(index), bytes));
    expect(some).toEqual(all);
    expect(one).toEqual(all);
    expect((all ?? []).reduce((total, [, count]) => total + count, 0)).toBe(5000);
  });

  test('runs are merged in the order of their keys, and of the runs for one key', async () => {
    const { mergeRuns } = await importParts();
    const runs = Array.from({ length: 150 }, (_, rank) => {
      const path = join(directory, `run-${String(rank)}`);
      const records = ['a', `b${String(rank % 7)}`, 'c'].map(
        (key) => `${JSON.stringify([key, rank])}\n`,
      );
      writeFileSync(path, records.join(''));
      return { path, start: 0, end: records.join('').length };
    });
    const merged = [...mergeRuns(runs, directory)];
    const expected = runs
      .flatMap((_, rank) => ['a', `b${String(rank % 7)}`, 'c'].map((key) => [key, rank] as const))
      .sort(([a, m], [b, n]) => (a < b ? -1 : a > b ? 1 : m - n));
    expect(merged).toEqual(expected);
  });
});
