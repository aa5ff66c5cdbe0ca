import { describe, expect, test } from '@jest/globals';
import { ApiError } from '../../../master/api/answer.ts';
import {
  checkAccept,
  checkContentType,
  checkHost,
  checkNoBrowser,
} from '../../../master/api/guards.ts';
import { checkListen, isLoopback } from '../../../master/api/listen.ts';
import type { Route } from '../../../master/api/routes.ts';
import { matchRoute } from '../../../master/api/routes.ts';
import { parseTarget } from '../../../master/api/target.ts';
import { codeOf } from '../../../protocol/errors.ts';

/** The status that a check refuses with; 0 if it does not. */
function statusOf(check: () => unknown): number {
  try {
    check();
    return 0;
  } catch (error) {
    if (error instanceof ApiError) return error.answer.status;
    throw error;
  }
}

describe('the target of a request', () => {
  test('is taken apart and decoded', () => {
    const { parts, query } = parseTarget('/v1/tasks/fw%3A1/a%20b?state=running&limit=5&q=a+b%3D');
    expect(parts).toEqual(['v1', 'tasks', 'fw:1', 'a b']);
    expect([...query]).toEqual([
      ['state', 'running'],
      ['limit', '5'],
      ['q', 'a b='],
    ]);
  });

  test.each([
    ['*'],
    ['http://elsewhere/v1/tasks'],
    ['//elsewhere/../v1'],
    ['/v1/../../etc/passwd'],
    ['/v1/%2e%2e/passwd'],
    ['/v1/%2E./x%2f..'],
    ['/v1/agents/a%2Fb'],
    ['/v1/agents/a%5cb'],
    ['/v1/agents/a%00b'],
    ['/v1/agents/a%0d%0aSet-Cookie:x'],
    ['/v1/agents/%'],
    ['/v1/agents/%ff'],
    ['/v1/tasks?a=1&a=2'],
    ['/v1/tasks?a=%zz'],
    ['/v1/tasks#x'],
    [`/v1/tasks?a=${'x'.repeat(1001)}`],
  ])('%s is refused', (url) => {
    expect(statusOf(() => parseTarget(url))).toBe(400);
  });
});

describe('the routes', () => {
  const route = (method: 'GET' | 'POST', path: string, query: string[] = []): Route => ({
    ...{ method, path, need: 'read', query },
    handle: () => Promise.reject(new Error('not called')),
  });
  const routes = [
    route('GET', '/v1/tasks', ['limit']),
    route('GET', '/v1/tasks/:framework/:task'),
    route('POST', '/v1/tasks/:framework/:task/kill'),
    route('POST', '/v1/roles/:role+'),
  ];
  const match = (method: string, url: string): ReturnType<typeof matchRoute> =>
    matchRoute(routes, method, parseTarget(url));

  test('are found by method and path, with what stands in it', () => {
    const { route: found, params } = match('POST', '/v1/tasks/f1/__proto__/kill');
    expect(found).toBe(routes[2]);
    expect([...params]).toEqual([
      ['framework', 'f1'],
      ['task', '__proto__'],
    ]);
  });

  test.each([
    ['/v1/roles/eng', 'eng'],
    ['/v1/roles/eng/prod/eu', 'eng/prod/eu'],
    ['/v1/roles/*', '*'],
  ])('may take all that is left of a path: %s', (url, role) => {
    expect([...match('POST', url).params]).toEqual([['role', role]]);
  });

  test('of GET answer HEAD', () => {
    expect(match('HEAD', '/v1/tasks?limit=1').route).toBe(routes[0]);
  });

  test.each([
    ['GET', '/', 404],
    ['GET', '/v1/tasks/', 404],
    ['POST', '/v1/roles', 404],
    ['POST', '/v1/roles/', 404],
    ['POST', '/v1/roles/eng//prod', 404],
    ['POST', '/v1/roles/eng/', 404],
    ['GET', '/v1//x', 404],
    ['GET', '/v1/tasks//t', 404],
    ['GET', '/v1/constructor', 404],
    ['GET', '/v1/tasks/f/t/kill', 405],
    ['DELETE', '/v1/tasks/f/t', 405],
    ['OPTIONS', '/v1/tasks', 405],
    ['GET', '/v1/tasks?limits=1', 400],
    ['GET', '/v1/tasks/f/t?limit=1', 400],
  ])('%s %s is %i', (method, url, status) => {
    expect(statusOf(() => match(method, url))).toBe(status);
  });

  test('say which methods a path takes', () => {
    let thrown: unknown;
    try {
      match('PUT', '/v1/tasks');
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ answer: { headers: { Allow: 'GET, HEAD' } } });
  });
});

describe('the name in Host', () => {
  const isOwnName = (name: string): boolean => name === 'api.example.org';

  test.each([
    ['localhost', 0],
    ['LOCALHOST:7420', 0],
    ['127.0.0.1:7420', 0],
    ['10.1.2.3', 0],
    ['[::1]:7420', 0],
    ['api.example.org', 0],
    ['api.example.org.:443', 0],
    ['evil.example', 421],
    ['localhost.evil.example', 421],
    ['127.0.0.1.evil.example:7420', 421],
    ['2130706433.example', 421],
    ['', 400],
    ['a b', 400],
    ['[evil]', 400],
    ['user@localhost', 400],
    ['localhost:7420, evil', 400],
    [undefined, 400],
  ])('%p is answered with %i', (host, status) => {
    const headers = host === undefined ? {} : { host };
    expect(
      statusOf(() => {
        checkHost(headers, isOwnName);
      }),
    ).toBe(status);
  });
});

describe('a request that changes something', () => {
  test.each([
    [{}, 0],
    [{ 'sec-fetch-site': 'none' }, 0],
    [{ origin: 'http://localhost:7420' }, 403],
    [{ origin: 'null' }, 403],
    [{ 'sec-fetch-site': 'same-origin' }, 403],
    [{ 'sec-fetch-site': 'cross-site' }, 403],
  ])('from a browser is refused: %j', (headers, status) => {
    expect(
      statusOf(() => {
        checkNoBrowser(headers);
      }),
    ).toBe(status);
  });

  test.each([
    [{}, 0],
    [{ 'content-length': '0' }, 0],
    [{ 'content-length': '2', 'content-type': 'application/json' }, 0],
    [{ 'content-length': '2', 'content-type': 'Application/JSON; charset=utf-8' }, 0],
    [{ 'content-length': '2' }, 415],
    [{ 'content-length': '2', 'content-type': 'text/plain' }, 415],
    [{ 'content-length': '2', 'content-type': 'application/jsonx' }, 415],
    [{ 'transfer-encoding': 'chunked' }, 415],
  ])('has a body of JSON: %j is answered with %i', (headers, status) => {
    expect(
      statusOf(() => {
        checkContentType(headers);
      }),
    ).toBe(status);
  });
});

test.each([
  [undefined, 0],
  ['*/*', 0],
  ['application/json', 0],
  ['text/html, application/*;q=0.5', 0],
  ['text/html', 406],
  ['application/json;q=0', 406],
])('a client that accepts %p is answered with %i', (accept, status) => {
  const headers = accept === undefined ? {} : { accept };
  expect(
    statusOf(() => {
      checkAccept(headers);
    }),
  ).toBe(status);
});

describe('the API listens', () => {
  const TLS = { tlsCert: '/a.crt', tlsKey: '/a.key' };
  const codeWith = (settings: object, isSecured: boolean): unknown => {
    try {
      checkListen({ host: '10.0.0.5', port: 1, insecure: false, ...settings }, isSecured);
      return undefined;
    } catch (error) {
      return codeOf(error);
    }
  };

  test.each([
    ['on the loopback of an open cluster', { host: '127.0.0.1' }, false],
    ['on the loopback by its name', { host: 'localhost' }, false],
    ['elsewhere in a secured cluster with TLS', TLS, true],
    ['elsewhere in an open cluster for known clients', { ...TLS, tlsClientCa: '/ca' }, false],
    ['elsewhere in an open cluster if somebody insists', { ...TLS, insecure: true }, false],
  ])('%s', (_where, settings, isSecured) => {
    expect(codeWith(settings, isSecured)).toBeUndefined();
  });

  test.each([
    ['elsewhere without TLS', {}, true],
    ['elsewhere without TLS, whatever somebody insists on', { insecure: true }, false],
    ['elsewhere in an open cluster', TLS, false],
    ['by a name that may lead anywhere, without TLS', { host: 'node7' }, true],
    ['on all addresses without TLS', { host: '::' }, true],
  ])('not %s', (_where, settings, isSecured) => {
    expect(codeWith(settings, isSecured)).toBe('api-refused');
  });

  test('0.0.0.0 and addresses that look like the loopback are not the loopback', () => {
    expect(['0.0.0.0', '128.0.0.1', '127.evil.org', '::'].map(isLoopback)).toEqual([
      false,
      false,
      false,
      false,
    ]);
  });
});
