/** What a driver throws when it is used wrongly, at once and at the call that is wrong: `KaonError` with one of these codes. */
import { KaonError } from '../protocol/errors.ts';
import type { KaonErrorDetails } from '../protocol/errors.ts';

/**
 * Codes of the errors of a driver's calls. After any of them nothing has been sent, and the driver goes on.
 *
 * `framework-invalid`: the framework's description; `cluster-name`: no name of a cluster; `invalid-argument`: a wrong type, a
 * field that does not exist, a value out of its range; `no-offers`: a launch needs one; `too-many`: tasks, offers or requests
 * of one call; `too-large`: the call as a whole; `data-too-large`: a message to an executor; `no-tasks`, `mixed-executors`: a
 * group has tasks, and all of them one executor; `implicit-acknowledgements`: the driver acknowledges by itself.
 */
export const DRIVER_ERROR_CODES = [
  'framework-invalid',
  'cluster-name',
  'invalid-argument',
  'no-offers',
  'too-many',
  'too-large',
  'data-too-large',
  'no-tasks',
  'mixed-executors',
  'implicit-acknowledgements',
] as const;
/** One of them. */
export type DriverErrorCode = (typeof DRIVER_ERROR_CODES)[number];

/** @returns the error to throw; the message says what was attempted and what was found */
export function driverError(
  code: DriverErrorCode,
  message: string,
  details?: KaonErrorDetails,
): KaonError {
  return new KaonError(code, message, details);
}
