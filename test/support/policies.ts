/** Rules of nodes for tests that are not about them. */
import type { SandboxPolicy } from '../../agent/sandboxing.ts';
import { RELAXATION_NAMES } from '../../protocol/sandboxing.ts';

/** Any user, the agent's own if none is asked for, and no sandbox. */
export function policyOf(directory: string, more: Partial<SandboxPolicy> = {}): SandboxPolicy {
  return {
    user: 'own',
    allowUsers: ['*'],
    allowRoot: true,
    allowRelax: RELAXATION_NAMES,
    relax: RELAXATION_NAMES,
    expose: [],
    programs: [],
    directory,
    cgroupVersion: 'v1',
    ...more,
  };
}
