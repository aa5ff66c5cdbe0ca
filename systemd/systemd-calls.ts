/**
 * The methods of systemd's manager object that Kaon calls, typed, and nothing else of D-Bus.
 *
 * Which failures mean "no such unit", "refused" or "nobody knows" is decided here, by error name.
 */
import { codeOf } from '../protocol/errors.ts';
import { busErrorName, variant, type BusCall } from './bus-connection.ts';
import { unitPath } from './names.ts';
import type { TransientUnit, UnitProperty } from './properties.ts';

/** Names of the manager object, org.freedesktop.systemd1(5). */
export const SYSTEMD = 'org.freedesktop.systemd1';
export const MANAGER_PATH = '/org/freedesktop/systemd1';
export const MANAGER = 'org.freedesktop.systemd1.Manager';
export const SERVICE = 'org.freedesktop.systemd1.Service';
const UNIT = 'org.freedesktop.systemd1.Unit';
const PROPERTIES = 'org.freedesktop.DBus.Properties';
const NO_JOB = 0;

/** A row of `ListUnits...`, org.freedesktop.systemd1(5). */
export interface ListedUnit {
  readonly name: string;
  readonly loadState: string;
  readonly activeState: string;
  readonly subState: string;
  /** Object path of the queued job; undefined if there is none. */
  readonly jobPath: string | undefined;
}

/** Makes one call on the bus and returns the body of its reply. */
export type Call = (call: BusCall) => Promise<readonly unknown[]>;

/** The methods of the manager object that Kaon uses, one function each. */
export interface SystemdCalls {
  subscribe(): Promise<void>;
  /** @returns the object path of the start job */
  startTransient(unit: TransientUnit): Promise<string>;
  /** Stops and starts in one job: a timer counts from the beginning. @returns the object path of the job */
  restartUnit(name: string): Promise<string>;
  /** @returns the object path of the stop job */
  stopUnit(name: string): Promise<string>;
  killUnit(name: string, signal: number): Promise<void>;
  resetFailed(name: string): Promise<void>;
  /** Changes cgroup limits of a loaded unit until it is unloaded, through reloads; loads a slice that was not. */
  setProperties(name: string, properties: readonly UnitProperty[]): Promise<void>;
  listByPatterns(...patterns: readonly string[]): Promise<ListedUnit[]>;
  listByName(name: string): Promise<ListedUnit | undefined>;
  /** Properties of the Service interface, one call each: as dear as all at once, and free of the unit's environment. */
  serviceProperties(name: string, wanted: readonly string[]): Promise<ReadonlyMap<string, unknown>>;
  serviceProperty(name: string, property: string): Promise<unknown>;
  /** Loaded units that need this one: of a slice, what is in it. */
  requiredBy(name: string): Promise<readonly string[]>;
  unitProperty(name: string, property: string): Promise<unknown>;
  /** A property of the manager itself. */
  managerProperty(property: string): Promise<unknown>;
  version(): Promise<string>;
}

/** Wraps a bus, or one of its connections, as the manager object. */
export function systemdCalls(call: Call): SystemdCalls {
  const manager = (
    member: string,
    signature?: string,
    ...body: unknown[]
  ): Promise<readonly unknown[]> =>
    call({
      destination: SYSTEMD,
      path: MANAGER_PATH,
      interface: MANAGER,
      member,
      ...(signature === undefined ? {} : { signature, body }),
    });
  const properties = (
    path: string,
    member: string,
    ...body: string[]
  ): Promise<readonly unknown[]> =>
    call({
      destination: SYSTEMD,
      path,
      interface: PROPERTIES,
      member,
      signature: 's'.repeat(body.length),
      body,
    });
  const get = async (path: string, from: string, name: string): Promise<unknown> => {
    const [variant] = await properties(path, 'Get', from, name);
    return unwrap(variant);
  };

  return {
    subscribe: async () => {
      try {
        await manager('Subscribe');
      } catch (error) {
        // A subscription survives a re-execution of systemd, and lasts as long as the connection.
        if (busErrorName(error) !== 'org.freedesktop.systemd1.AlreadySubscribed') throw error;
      }
    },
    startTransient: async (unit) => {
      const auxiliary = unit.auxiliary.map((aux) => [aux.name, encode(aux.properties)]);
      const body = [unit.name, 'fail', encode(unit.properties), auxiliary];
      return jobPath(await manager('StartTransientUnit', 'ssa(sv)a(sa(sv))', ...body));
    },
    restartUnit: async (name) => jobPath(await manager('RestartUnit', 'ss', name, 'replace')),
    stopUnit: async (name) => jobPath(await manager('StopUnit', 'ss', name, 'replace')),
    killUnit: async (name, signal) => void (await manager('KillUnit', 'ssi', name, 'all', signal)),
    resetFailed: async (name) => void (await manager('ResetFailedUnit', 's', name)),
    setProperties: async (name, properties) =>
      void (await manager('SetUnitProperties', 'sba(sv)', name, true, encode(properties))),
    listByPatterns: async (...patterns) =>
      rows(await manager('ListUnitsByPatterns', 'asas', [], patterns)),
    listByName: async (name) => rows(await manager('ListUnitsByNames', 'as', [name]))[0],
    serviceProperties: async (name, wanted) => {
      const values = wanted.map((property) => get(unitPath(name), SERVICE, property));
      const entries = (await Promise.all(values)).map(
        (value, index) => [wanted[index] ?? '', value] as const,
      );
      return new Map(entries);
    },
    serviceProperty: (name, property) => get(unitPath(name), SERVICE, property),
    unitProperty: (name, property) => get(unitPath(name), UNIT, property),
    requiredBy: async (name) => (await get(unitPath(name), UNIT, 'RequiredBy')) as string[],
    managerProperty: (property) => get(MANAGER_PATH, MANAGER, property),
    version: async () => String(await get(MANAGER_PATH, MANAGER, 'Version')),
  };
}

function encode(properties: readonly UnitProperty[]): unknown[] {
  return properties.map(({ name, signature, value }) => [name, variant(signature, value)]);
}

/** The value inside of a D-Bus variant. */
export function unwrap(variant: unknown): unknown {
  return (variant as { value?: unknown } | undefined)?.value;
}

function jobPath(reply: readonly unknown[]): string {
  return String(reply[0]);
}

type Row = readonly [
  name: string,
  description: string,
  loadState: string,
  activeState: string,
  subState: string,
  following: string,
  path: string,
  jobId: number,
  jobType: string,
  jobPath: string,
];

/** Stubs that systemd makes for names it does not know are left out. */
function rows(reply: readonly unknown[]): ListedUnit[] {
  return (reply[0] as Row[])
    .map(([name, , loadState, activeState, subState, , , jobId, , path]) => ({
      name,
      loadState,
      activeState,
      subState,
      jobPath: jobId === NO_JOB ? undefined : path,
    }))
    .filter((row) => row.loadState !== 'not-found');
}

/** Whether the call failed because the unit is not loaded. */
export function isNoSuchUnit(error: unknown): boolean {
  const name = busErrorName(error);
  return (
    name === 'org.freedesktop.systemd1.NoSuchUnit' || name === 'org.freedesktop.systemd1.NotLoaded'
  );
}

/** Whether a start was refused because a unit of that name is loaded. */
export function isUnitExists(error: unknown): boolean {
  return busErrorName(error) === 'org.freedesktop.systemd1.UnitExists';
}

/** What the bus daemon says while systemd is away from the bus (it re-executes, or the bus has just restarted). */
const AWAY = new Set([
  'org.freedesktop.DBus.Error.NoReply',
  'org.freedesktop.DBus.Error.ServiceUnknown',
  'org.freedesktop.DBus.Error.NameHasNoOwner',
  'org.freedesktop.DBus.Error.Disconnected',
  'org.freedesktop.DBus.Error.LimitsExceeded',
]);

/** Whether nobody can say if the call had an effect: connection lost, no answer, systemd gone from the bus. */
export function isOutcomeUnknown(error: unknown): boolean {
  const code = codeOf(error);
  if (code === 'bus-down' || code === 'bus-timeout') return true;
  return AWAY.has(busErrorName(error) ?? '');
}
