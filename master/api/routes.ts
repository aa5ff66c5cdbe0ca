/** Which handler answers which request. Pure: a table, and its look-up. */
import type { IncomingMessage } from 'node:http';
import type { Answer } from './answer.ts';
import { ApiError } from './answer.ts';
import type { Caller, Need } from './access.ts';
import type { Target } from './target.ts';

/** A request as its handler gets it. */
export interface ApiRequest {
  /** What stands in the path in place of `:names`, decoded. */
  readonly params: ReadonlyMap<string, string>;
  /** Only parameters that the route knows. */
  readonly query: ReadonlyMap<string, string>;
  readonly caller: Caller;
  readonly message: IncomingMessage;
}

/** One thing that can be asked. */
export interface Route {
  readonly method: 'GET' | 'POST';
  /** `/v1/agents/:agent`; a last part `:role+` takes all parts that are left, with their slashes. */
  readonly path: string;
  readonly need: Need;
  /** Names of its parameters; any other is an error. */
  readonly query?: readonly string[];
  readonly handle: (request: ApiRequest) => Promise<Answer>;
}

/** A route, and what stands in its path. */
export interface Matched {
  readonly route: Route;
  readonly params: ReadonlyMap<string, string>;
}

/**
 * @param method of the request; HEAD is as GET
 * @throws ApiError 404, 405 with `Allow`, 400 for a parameter that the route does not know
 */
export function matchRoute(routes: readonly Route[], method: string, target: Target): Matched {
  const found = routes.flatMap((route) => {
    const params = paramsOf(route.path, target.parts);
    return params ? [{ route, params }] : [];
  });
  if (found.length === 0) {
    throw new ApiError(404, 'no-such-path', {
      message: 'there is nothing at this path',
      hint: 'docs/api.md has all of them',
    });
  }
  const wanted = method === 'HEAD' ? 'GET' : method;
  const matched = found.find(({ route }) => route.method === wanted);
  if (!matched) {
    const allowed = found.flatMap(({ route }) =>
      route.method === 'GET' ? ['GET', 'HEAD'] : [route.method],
    );
    throw new ApiError(405, 'method-not-allowed', {
      message: `this path takes ${allowed.join(', ')}`,
      headers: { Allow: allowed.join(', ') },
    });
  }
  checkQuery(matched.route, target.query);
  return matched;
}

function paramsOf(path: string, parts: readonly string[]): Map<string, string> | undefined {
  const pattern = path.slice(1).split('/');
  const last = pattern.at(-1) ?? '';
  if (last.endsWith('+')) return paramsOf(path.slice(0, -1), joinRest(parts, pattern.length));
  if (pattern.length !== parts.length) return undefined;
  const params = new Map<string, string>();
  for (const [index, name] of pattern.entries()) {
    const part = parts[index] ?? '';
    if (name.startsWith(':')) {
      if (part === '') return undefined;
      params.set(name.slice(1), part);
    } else if (name !== part) return undefined;
  }
  return params;
}

/** The parts from the last one of a pattern on, as one; as they are if one of them is empty. */
function joinRest(parts: readonly string[], length: number): readonly string[] {
  const rest = parts.slice(length - 1);
  if (rest.length === 0 || rest.includes('')) return parts;
  return [...parts.slice(0, length - 1), rest.join('/')];
}

function checkQuery({ query: known = [] }: Route, query: Target['query']): void {
  const unknown = [...query.keys()].find((name) => !known.includes(name));
  if (unknown === undefined) return;
  const takes = known.length === 0 ? 'none' : known.join(', ');
  throw new ApiError(400, 'unknown-parameter', {
    message: `${JSON.stringify(unknown.slice(0, 50))} is no parameter of this path, which takes ${takes}`,
  });
}
