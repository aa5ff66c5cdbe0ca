/** What the command says on a cluster: for tests that read its words, and want it to succeed or to be refused. */
import { expect } from '@jest/globals';
import type { ClusterBed } from '../beds/cluster.ts';

/** Runs `kaon ARGS`, which has to succeed without a word on stderr. @returns its stdout */
export async function kaonOk(cluster: ClusterBed, argv: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await cluster.kaon(...argv);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  return stdout;
}

/** Runs `kaon ARGS`, which has to print nothing on stdout. @returns its exit code and stderr, `1 kaon: ...` */
export async function kaonFailed(cluster: ClusterBed, argv: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await cluster.kaon(...argv);
  expect(stdout).toBe('');
  return `${String(exitCode)} ${stderr}`;
}
