/**
 * Names of units and what follows from them: D-Bus object paths, the slice of a task, cgroup paths. Pure.
 */

const UNIT_PATH_PREFIX = '/org/freedesktop/systemd1/unit/';

/** D-Bus object path of a unit: every byte that is not a letter or digit as `_xx`, sd_bus_path_encode(3). */
export function unitPath(name: string): string {
  let escaped = '';
  for (const byte of Buffer.from(name)) {
    const character = String.fromCharCode(byte);
    escaped += /[A-Za-z0-9]/.test(character) ? character : `_${byte.toString(16).padStart(2, '0')}`;
  }
  return UNIT_PATH_PREFIX + escaped;
}

/** The unit of an object path; undefined for paths of other objects. */
export function unitOfPath(path: string): string | undefined {
  if (!path.startsWith(UNIT_PATH_PREFIX)) return undefined;
  const escaped = path.slice(UNIT_PATH_PREFIX.length);
  return escaped.replace(/_([0-9a-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

/**
 * The slice that holds one task, inside `slice`: `kaon-web.slice` and `kaon-web-1.service` give
 * `kaon-web-web:1.slice`.
 *
 * A `-` in a slice's name is a level of the tree (systemd.slice(5)), so the unit's own are written `:`;
 * one to one, because `:` itself becomes `\x3a`.
 */
export function taskSliceName(slice: string, unit: string): string {
  const stem = unit.replace(/\.service$/, '').replace(/^kaon-/, '');
  const leaf = stem.replaceAll(':', '\\x3a').replaceAll('-', ':');
  return `${slice.replace(/\.slice$/, '')}-${leaf}.slice`;
}

/** Whether `slice` is the slice of that one unit, as made by `taskSliceName`. */
export function isTaskSlice(slice: string, unit: string): boolean {
  const parent = parentSlice(slice);
  return parent !== undefined && taskSliceName(parent, unit) === slice;
}

/** The slice above, by name; undefined for one at the top. */
export function parentSlice(slice: string): string | undefined {
  const last = slice.lastIndexOf('-');
  return last <= 0 ? undefined : `${slice.slice(0, last)}.slice`;
}

/** Cgroup path of a slice: `kaon-web-1.slice` is `/kaon.slice/kaon-web.slice/kaon-web-1.slice`. */
export function sliceCgroup(slice: string): string {
  const parent = parentSlice(slice);
  return `${parent === undefined ? '' : sliceCgroup(parent)}/${slice}`;
}
