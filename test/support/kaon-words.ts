/** What the command says on a cluster: for tests that read its words, and want it to succeed or to be refused. */
import { expect } from '@jest/globals';
import type { ClusterBed } from '../beds/cluster.ts';

/** Why a command takes its time, for whoever sits in front of it. */
const WAITING = /^kaon: (?:waiting: .*|no master leads: the request waits until one does)\n/gm;

/** What a command has printed on stderr, without what it says there as well where the machine is slow. */
export function withoutWaiting(stderr: string): string {
  return stderr.replace(WAITING, '');
}

/** Runs `kaon ARGS`, which has to succeed without a complaint on stderr. @returns its stdout */
export async function kaonOk(cluster: ClusterBed, argv: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await cluster.kaon(...argv);
  expect({ exitCode, stderr: withoutWaiting(stderr) }).toEqual({ exitCode: 0, stderr: '' });
  return stdout;
}

/** Runs `kaon ARGS`, which has to print nothing on stdout. @returns its exit code and stderr, `1 kaon: ...` */
export async function kaonFailed(cluster: ClusterBed, argv: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await cluster.kaon(...argv);
  expect(stdout).toBe('');
  return `${String(exitCode)} ${withoutWaiting(stderr)}`;
}
