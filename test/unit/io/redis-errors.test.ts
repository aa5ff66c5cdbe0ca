import { describe, expect, test } from '@jest/globals';
import { explainRedisError, isElsewhere, retryLevel } from '../../../io/redis-errors.ts';

const withCode = (code: string): Error => Object.assign(new Error(`it failed: ${code}`), { code });

describe('an error of Redis is explained', () => {
  test.each<[string, string]>([
    ['WRONGPASS invalid username-password pair or user is disabled.', 'login-refused'],
    ['ERR invalid password', 'login-refused'],
    ['NOAUTH Authentication required.', 'login-refused'],
    ["NOPERM User a has no permissions to run the 'evalsha' command", 'no-permission'],
    ['NOPERM No permissions to access a key', 'no-permission'],
    [
      "ERR ACL failure in script: User a has no permissions to run the 'zadd' command",
      'no-permission',
    ],
    [
      "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
      'no-permission',
    ],
    ["NOPERM User a has no permissions to run the 'eval' command", 'scripts-missing'],
    ["OOM command not allowed when used memory > 'maxmemory'.", 'memory-full'],
    [
      "ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed when used memory > 'maxmemory'.",
      'memory-full',
    ],
    ["READONLY You can't write against a read only replica.", 'read-only'],
    ['UNBLOCKED force unblock from blocking operation, instance state changed', 'read-only'],
    [
      'MISCONF Redis is configured to save RDB snapshots, but it is currently not able to persist on disk.',
      'cannot-persist',
    ],
    ['LOADING Redis is loading the dataset in memory', 'loading'],
    ["MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", 'loading'],
    ['CLUSTERDOWN Hash slot not served', 'cluster-down'],
    ['MOVED 3999 127.0.0.1:6381', 'cluster-down'],
    ['TRYAGAIN Multiple keys request during rehashing of slot', 'cluster-down'],
    ['ERR This instance has cluster support disabled', 'not-a-cluster'],
    ['All sentinels are unreachable and retry is disabled.', 'sentinel'],
    ['BUSY Redis is busy running a script. You can only call SCRIPT KILL', 'busy'],
    ['ERR max number of clients reached', 'too-many-clients'],
    ['Connection is closed.', 'unreachable'],
    ["Socket timeout. Expecting data, but didn't receive any in 15000ms.", 'unreachable'],
    ['WRONGTYPE Operation against a key holding the wrong kind of value', 'other'],
  ])('%s: %s', (message, code) => {
    const explanation = explainRedisError(new Error(message));
    expect(explanation.code).toBe(code);
    expect(explanation.hint).not.toBe('');
  });

  test.each([
    ['ECONNREFUSED', 'unreachable', 'nobody listens at this address'],
    ['ENOENT', 'unreachable', 'the socket does not exist'],
    ['EACCES', 'unreachable', 'this user may not open the socket'],
    ['ENOTFOUND', 'unreachable', 'the host name is not known'],
    ['ETIMEDOUT', 'unreachable', 'the host does not answer'],
    ['ECONNRESET', 'unreachable', 'the connection was cut'],
    ['SELF_SIGNED_CERT_IN_CHAIN', 'tls', 'TLS failed: it failed: SELF_SIGNED_CERT_IN_CHAIN'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'tls', 'TLS failed: it failed: ERR_TLS_CERT_ALTNAME_INVALID'],
    ['EWHATEVER', 'other', 'it failed: EWHATEVER'],
  ])('the code %s: %s, %s', (errorCode, code, text) => {
    expect(explainRedisError(withCode(errorCode))).toMatchObject({ code, text });
  });

  test('so is what is no error at all', () => {
    expect(explainRedisError(undefined)).toMatchObject({ code: 'other', text: 'undefined' });
  });
});

test.each([
  ["READONLY You can't write against a read only replica.", true],
  ['MOVED 3999 127.0.0.1:6381', true],
  ['ASK 3999 127.0.0.1:6381', true],
  ['CLUSTERDOWN The cluster is down', true],
  ['OOM command not allowed', false],
  ['NOSCRIPT No matching script', false],
  ['MISCONF Errors writing to the AOF file', false],
])('after %s another server may be the right one: %p', (message, is) => {
  expect(isElsewhere(new Error(message))).toBe(is);
});

test.each<[string, unknown, string]>([
  ['a fault of Redis', new Error('LOADING Redis is loading the dataset in memory'), 'debug'],
  ['a fault of the way to it', withCode('ECONNREFUSED'), 'debug'],
  ['another error of Redis', new Error('WRONGTYPE Operation against a key'), 'warn'],
  ['what is no error at all', undefined, 'warn'],
])(
  '%s, after which the caller tries again, is logged by it at the right level',
  (_what, error, level) => {
    expect(retryLevel(error)).toBe(level);
  },
);
