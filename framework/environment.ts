/** What the environment of the process says to a driver, as far as its author has said nothing else. */
import { redisAddressOf } from '../io/redis-address.ts';
import { randomName } from '../io/clock.ts';
import { strangeRole } from '../protocol/offer-constraints.ts';
import { FrameworkInfo, rolesOf } from '../protocol/task.ts';
import type { FrameworkDescription } from './descriptions.ts';
import { driverError } from './driver-errors.ts';
import { unknownFields } from './unknown-fields.ts';

/** Environment variables by name. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Where the cluster is. */
export interface ClusterAddress {
  /** Of Redis. */
  readonly url: string;
  readonly cluster: string;
}

/**
 * @param given what the author has said
 * @returns that, else `KAON_REDIS` and `KAON_CLUSTER`, else `redis://127.0.0.1:6379` and `default`; with TLS, certificates
 *   from `KAON_REDIS_CA`, `KAON_REDIS_CERT` and `KAON_REDIS_KEY`
 * @throws KaonError `cluster-name`, `redis-url`
 */
export function clusterAddress(
  given: { readonly redis?: string | undefined; readonly cluster?: string | undefined },
  environment: Environment,
): ClusterAddress {
  const cluster = nonEmpty(given.cluster) ?? nonEmpty(environment['KAON_CLUSTER']) ?? 'default';
  if (!/^[A-Za-z0-9_.-]{1,64}$/.test(cluster)) {
    throw driverError(
      'cluster-name',
      `${JSON.stringify(cluster)} is no name of a cluster; it has 1 to 64 letters, digits, "_", "." and "-"`,
    );
  }
  return {
    url: redisAddressOf({ redis: nonEmpty(given.redis) }, environment),
    cluster,
  };
}

/**
 * @returns the framework with its defaults. Without an id it gets the one in `KAON_FRAMEWORK_ID`, or a new one
 * @throws KaonError `framework-invalid`, field by field
 */
export function frameworkInfo(
  description: FrameworkDescription,
  environment: Environment,
): FrameworkInfo {
  const name = typeof description.name === 'string' ? description.name : '';
  const frameworkId =
    description.frameworkId ?? frameworkIdIn(environment) ?? `${labelOf(name)}.${randomName(6)}`;
  const parsed = FrameworkInfo.safeParse({ ...description, frameworkId });
  if (!parsed.success) {
    const issues = parsed.error.issues.map(
      ({ path, message }) => `${path.map(String).join('.')}: ${message}`,
    );
    throw driverError('framework-invalid', `framework ${name}: ${issues.join('; ')}`, {
      cause: parsed.error,
    });
  }
  const unknown = unknownFields(description, parsed.data);
  if (unknown.length > 0) {
    throw driverError('framework-invalid', `framework ${name} has no field ${unknown.join(', ')}`);
  }
  const strange = strangeRole(parsed.data.offerConstraints, rolesOf(parsed.data));
  if (strange !== undefined) {
    throw driverError(
      'framework-invalid',
      `framework ${name}: offerConstraints: ${strange} is none of its roles`,
    );
  }
  return parsed.data;
}

/**
 * The id of the framework whose scheduler this process is. Every task finds the id of the framework that has launched it
 * in `KAON_FRAMEWORK_ID`, whatever it does; so in a task it counts only beside `KAON_SCHEDULER=1`. Else a scheduler that
 * somebody runs in a task would take over the framework of that task.
 */
function frameworkIdIn(environment: Environment): string | undefined {
  const isInTask = ['KAON_TASK_ID', 'KAON_EXECUTOR_ID'].some(
    (name) => nonEmpty(environment[name]) !== undefined,
  );
  if (isInTask && environment['KAON_SCHEDULER'] !== '1') return undefined;
  return nonEmpty(environment['KAON_FRAMEWORK_ID']);
}

/** An empty variable is one that is not set. */
function nonEmpty(value: string | undefined): string | undefined {
  return value === '' ? undefined : value;
}

/** The name of a framework as the first part of an id. */
function labelOf(name: string): string {
  return (
    name
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, '_')
      .replace(/^_/, '')
      .slice(0, 20) || 'framework'
  );
}
