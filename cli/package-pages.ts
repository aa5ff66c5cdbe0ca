/** What the build writes beside the programs: manual pages, and completion for each shell. */
import type { PackageFile } from './manual.ts';
import { COMPLETION_FILES, completionFor } from './completion.ts';
import { manualPages } from './manual.ts';

/** @param version of Kaon */
export function packagePages(version: string): PackageFile[] {
  const completions = Object.entries(COMPLETION_FILES).map(([shell, file]) => ({
    path: `completion/${file}`,
    text: completionFor(shell),
  }));
  return [...manualPages(version), ...completions];
}
