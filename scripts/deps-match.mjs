// Exits 0 when node_modules holds exactly what package-lock.json asks for, else prints the first difference and exits 1.
// npm keeps its own record of what it installed; comparing the two takes 50 ms where `npm ci` takes half a minute.
// Works without any dependency, because it runs before they are there.

import { existsSync, readFileSync } from 'node:fs';

const INSTALLED = 'node_modules/.package-lock.json';

function firstDifference() {
  if (!existsSync(INSTALLED)) return 'node_modules is not there';
  const wanted = JSON.parse(readFileSync('package-lock.json', 'utf8')).packages;
  const installed = JSON.parse(readFileSync(INSTALLED, 'utf8')).packages;
  for (const [path, { version, integrity, optional }] of Object.entries(wanted)) {
    if (path === '') continue;
    const found = installed[path];
    // Optional packages are mostly builds for other platforms, which npm leaves out.
    if (found === undefined && optional) continue;
    if (found?.version !== version || found?.integrity !== integrity) {
      return `${path} is ${found?.version ?? 'missing'}, the lock file wants ${version}`;
    }
  }
  const extra = Object.keys(installed).find((path) => !(path in wanted));
  return extra === undefined ? undefined : `${extra} is not in the lock file`;
}

const difference = firstDifference();
if (difference !== undefined) {
  console.log(difference);
  process.exit(1);
}
