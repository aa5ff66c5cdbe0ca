/**
 * What a unit has to be like for the manager of a user, as a change of what it is for the system's. Pure.
 *
 * Such a manager has no privilege. What it cannot do it either refuses, so that no command would ever start, or leaves out
 * without a word, so that `systemctl show` would promise what does not hold. Both are put right here, in one place.
 *
 * Tried on systemd 252: alone, every setting of the sandbox that needs a mount namespace is silently without effect
 * (`PrivateTmp=`, `ProtectSystem=`, ...) or fails (`PrivateDevices=`, `ProtectKernelModules=`, `TemporaryFileSystem=`,
 * `CapabilityBoundingSet=`). With `PrivateUsers=` they hold, because in a user namespace of its own the child may mount.
 */
import type { Controller } from './delegation.ts';
import { userNamespace, type PropertyName } from './properties.ts';
import type { TransientUnit, UnitProperty } from './properties.ts';

/** What its manager is, and has. */
export interface ManagerOfUser {
  /** Its cgroup. */
  readonly controlGroup: string;
  /** Limits that are set. None: tasks run without any. */
  readonly held: readonly Controller[];
}

/** Which controller a property needs. */
const CONTROLLER_OF: Readonly<Partial<Record<PropertyName, Controller>>> = {
  CPUQuotaPerSecUSec: 'cpu',
  CPUWeight: 'cpu',
  MemoryMax: 'memory',
  MemorySwapMax: 'memory',
  TasksMax: 'pids',
};

/**
 * Only root takes on another user or makes one, and only root may load the programs by which the kernel filters addresses. And
 * nobody else may lower a score than it is, which for a manager of a user and all below it is above that of the system's
 * services (user@.service, `OOMScoreAdjust=`).
 */
const PRIVILEGED: ReadonlySet<PropertyName> = new Set([
  'User',
  'DynamicUser',
  'OOMScoreAdjust',
  'IPAddressAllow',
  'IPAddressDeny',
]);

/** Parts of the sandbox that take privileges which a process has only in a user namespace of its own. */
const NEEDS_NAMESPACE =
  /^(Private|Protect|TemporaryFileSystem|Bind|InaccessiblePaths|ReadWritePaths|CapabilityBoundingSet)/;

const OWN_CGROUP = /^(-?\/sys\/fs\/cgroup)(\/kaon\.slice)/;

/**
 * @param unit as it is for the system's manager
 * @returns the unit as a user's manager can start it, with nothing that would not be in force
 */
export function unitOfUser(unit: TransientUnit, manager: ManagerOfUser): TransientUnit {
  const { held } = manager;
  const keep = (properties: readonly UnitProperty[]): UnitProperty[] =>
    properties
      .filter(({ name }) => !PRIVILEGED.has(name) && isHeld(name, held))
      .map((property) => asUser(property, manager));
  return {
    name: unit.name,
    properties: withNamespace(keep(unit.properties)),
    auxiliary: unit.auxiliary.map(({ name, properties }) => ({
      name,
      properties: keep(properties),
    })),
  };
}

function isHeld(name: PropertyName, held: readonly Controller[]): boolean {
  const controller = CONTROLLER_OF[name];
  if (name === 'DelegateControllers') return held.length > 0;
  return controller === undefined || held.includes(controller);
}

/** What is passed on can be no more than what there is, and cgroups are below the manager's own. */
function asUser(property: UnitProperty, { held, controlGroup }: ManagerOfUser): UnitProperty {
  if (property.name === 'DelegateControllers') return { ...property, value: [...held] };
  if (property.name !== 'ReadWritePaths') return property;
  const paths = (property.value as readonly string[]).map((path) =>
    path.replace(OWN_CGROUP, (_, root: string, slice: string) => `${root}${controlGroup}${slice}`),
  );
  return { ...property, value: paths };
}

function withNamespace(properties: UnitProperty[]): UnitProperty[] {
  const isThere = properties.some(({ name }) => name === 'PrivateUsers');
  const isNeeded = properties.some(({ name }) => NEEDS_NAMESPACE.test(name));
  return isThere || !isNeeded ? properties : [...properties, userNamespace()];
}
