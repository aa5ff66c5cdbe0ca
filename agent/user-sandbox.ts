/**
 * Whether systemd can put a sandbox around tasks of a user. It takes user namespaces for everybody, which some distributions
 * refuse (`kernel.unprivileged_userns_clone`, `kernel.apparmor_restrict_unprivileged_userns`); a try says more than any setting.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);
/** Of a unit that does nothing, milliseconds. */
const TRY_MS = 60_000;
/** One of each kind: mounts, devices, capabilities. */
const TRIED = [
  'PrivateUsers=yes',
  'ProtectSystem=strict',
  'TemporaryFileSystem=/tmp',
  'PrivateDevices=yes',
  'CapabilityBoundingSet=',
  'NoNewPrivileges=yes',
];

/**
 * Starts a unit with a sandbox in the user's systemd.
 *
 * @param environment with what systemd-run finds the user's systemd by
 * @returns whether its command was executed
 */
export async function canSandbox(
  environment: Readonly<Record<string, string | undefined>>,
): Promise<boolean> {
  const properties = TRIED.flatMap((property) => ['--property', property]);
  const argv = ['--user', '--quiet', '--wait', '--collect', ...properties, '/bin/true'];
  try {
    await run('systemd-run', argv, { env: { ...environment }, timeout: TRY_MS });
    return true;
  } catch {
    return false; // Refused, or there is no systemd-run: then nothing is promised.
  }
}
