/**
 * What is to be done for the artifacts of a task, decided before anything is fetched: where each comes from, what its name
 * is, whether it is extracted, and that no two of them want the same place. Pure, but for Node's own reading of URLs.
 */
import { fileURLToPath } from 'node:url';
import type { Uri } from '../../protocol/command.ts';
import { decodeDataUri } from './data-uri.ts';
import { artifactFailed, labelOf, refused, shorten } from './failure.ts';
import { splitName } from './names.ts';

/** Where the bytes are. A path is read with the rights of the task's user, and by nobody else. */
export type ArtifactSource =
  | { readonly type: 'http'; readonly url: URL }
  | { readonly type: 'data'; readonly bytes: Buffer }
  | { readonly type: 'path'; readonly path: string };

/** One artifact, ready to be fetched. */
export interface PlannedArtifact {
  /** Its name in messages. */
  readonly label: string;
  readonly source: ArtifactSource;
  readonly action: 'file' | 'extract';
  /** Below the sandbox: the file, or the directory to extract into, which may be the sandbox itself (no parts). */
  readonly target: readonly string[];
  /** Permissions of the file; an archive has its own. */
  readonly mode: number;
  readonly sha256: string | undefined;
  readonly isCached: boolean;
}

const EXTRACTED = /\.(tar|tar\.gz|tgz|zip)$/i;
/** They would be extracted, if it were possible: to put them there as they are would surprise. */
const NOT_EXTRACTED = /\.(tar\.(bz2?|xz|zst|lz|lzma|lz4|br|z)|tbz2?|txz|tzst|tlz|taz)$/i;

/**
 * @returns one for each, in their order
 * @throws KaonError `artifact-failed` for the first that cannot be
 */
export function planArtifacts(uris: readonly Uri[]): PlannedArtifact[] {
  const planned: PlannedArtifact[] = [];
  for (const uri of uris) {
    const label = labelOf(uri.uri);
    try {
      const artifact = planArtifact(uri, label);
      for (const other of planned) refuseConflict(artifact, other);
      planned.push(artifact);
    } catch (error) {
      throw artifactFailed(label, error);
    }
  }
  return planned;
}

function planArtifact(uri: Uri, label: string): PlannedArtifact {
  const source = sourceOf(uri.uri);
  const name = nameOf(source);
  const action = actionOf(uri, name ?? '');
  const target = action === 'extract' ? splitName(uri.path ?? '.') : targetOf(uri.path, name);
  return {
    label,
    source,
    action,
    target,
    mode: uri.executable ? 0o755 : 0o644,
    sha256: uri.sha256,
    isCached: uri.cache && source.type === 'http',
  };
}

function sourceOf(uri: string): ArtifactSource {
  if (uri.startsWith('/')) return { type: 'path', path: uri };
  if (/^data:/i.test(uri)) return { type: 'data', bytes: decodeDataUri(uri) };
  if (!/^(https?|file):/i.test(uri)) {
    throw refused('it must be an http:, https:, file: or data: URI, or an absolute path');
  }
  if (!URL.canParse(uri)) throw refused('it is not a URI');
  const url = new URL(uri);
  if (url.protocol === 'file:') return { type: 'path', path: pathOf(url) };
  url.hash = '';
  return { type: 'http', url };
}

function pathOf(url: URL): string {
  // They would be cut off without a word, and another file taken.
  if (url.search !== '' || url.hash !== '') throw refused('? and # must be percent-encoded in it');
  try {
    return fileURLToPath(url);
  } catch (error) {
    throw refused('it must name a file of the node: file:///absolute/path', error);
  }
}

/** Last part of the path; undefined for data, which has none. */
function nameOf(source: ArtifactSource): string | undefined {
  switch (source.type) {
    case 'data':
      return undefined;
    case 'path':
      return source.path.split('/').at(-1);
    case 'http': {
      const last = source.url.pathname.split('/').at(-1) ?? '';
      try {
        return decodeURIComponent(last);
      } catch {
        return last; // Not UTF-8, or a lone %: then the name is what was written.
      }
    }
  }
}

function actionOf({ extract, executable }: Uri, name: string): 'file' | 'extract' {
  if (extract === true && executable) throw refused('it cannot be both extracted and executable');
  if (extract === false || (extract === undefined && executable)) return 'file';
  if (NOT_EXTRACTED.test(name)) {
    const words = 'this kind of archive cannot be extracted';
    throw refused(
      `${words}: .tar, .tar.gz, .tgz and .zip can, or take it as it is: extract: false`,
    );
  }
  return extract === true || EXTRACTED.test(name) ? 'extract' : 'file';
}

function targetOf(path: string | undefined, name: string | undefined): string[] {
  const wanted = path ?? name;
  if (wanted === undefined) throw refused('it has no name: give it a path');
  if (path === undefined && (wanted.includes('/') || wanted === '..')) {
    throw refused(`${JSON.stringify(shorten(wanted))} is no name for a file: give it a path`);
  }
  const parts = splitName(wanted);
  if (parts.length === 0) throw refused('it has no name: give it a path');
  return parts;
}

/** Archives may share a directory; a file shares its place with nothing. */
function refuseConflict(one: PlannedArtifact, other: PlannedArtifact): void {
  const isFile = one.action === 'file' && isAbove(one.target, other.target);
  const isBelowFile = other.action === 'file' && isAbove(other.target, one.target);
  if (!isFile && !isBelowFile) return;
  const place = (isFile ? one : other).target.join('/');
  throw refused(`${JSON.stringify(shorten(place))} is the place of ${other.label} already`);
}

function isAbove(upper: readonly string[], lower: readonly string[]): boolean {
  return upper.every((part, index) => lower[index] === part);
}
