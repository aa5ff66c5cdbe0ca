import { describe, expect, test } from '@jest/globals';
import { certificateConfig } from '../../../cli/certs/extensions.ts';
import { parseIssueOptions } from '../../../cli/certs/options.ts';
import { CERTS_HELP } from '../../../cli/help-certs.ts';
import { parseListenOptions } from '../../../cli/listen-options.ts';

describe('kaon certs issue', () => {
  test('makes a certificate for a server and client by default, reached by its name', () => {
    expect(parseIssueOptions({}, 'redis1').request).toEqual({
      name: 'redis1',
      hosts: ['redis1'],
      ips: [],
      usages: ['server', 'client'],
    });
  });

  test('takes lists, each name once', () => {
    const raw = { host: ['a.example.org,b', 'b'], ip: ['10.0.0.5,fd00::5'], server: true };
    expect(parseIssueOptions(raw, 'r').request).toMatchObject({
      hosts: ['a.example.org', 'b'],
      ips: ['10.0.0.5', 'fd00::5'],
      usages: ['server'],
    });
  });

  test('gives a client no name in the network', () => {
    expect(parseIssueOptions({ client: true }, 'node1').request.hosts).toEqual([]);
  });

  test.each([
    [{}, '../../etc/x', 'not a name of a certificate'],
    [{}, 'a/b', 'not a name of a certificate'],
    [{}, '-x', 'not a name of a certificate'],
    [{}, 'a\nCN=b', 'not a name of a certificate'],
    [{}, 'a..b', 'not a name of a certificate'],
    [{}, 'ca', 'ca is the authority itself'],
    [{ host: ['a,DNS:b c'] }, 'x', 'not a host name'],
    [{ host: ['a\nb'] }, 'x', 'not a host name'],
    [{ host: ['$ENV::HOME'] }, 'x', 'not a host name'],
    [{ host: ['10.0.0.5'] }, 'x', 'an address; write --ip 10.0.0.5'],
    [{ ip: ['10.0.0'] }, 'x', 'not an address'],
    [{ ip: ['fe80::1%eth0, email:x'] }, 'x', 'not an address'],
    [{ days: '0' }, 'x', '--days 0'],
    [{ dir: '' }, 'x', '--dir'],
  ])('%j %s is an error: %s', (raw, name, why) => {
    expect(() => parseIssueOptions(raw, name)).toThrow(why);
  });

  test('puts only what was checked into the configuration', () => {
    const { request } = parseIssueOptions({ host: ['*.a.org'], ip: ['::1'], client: true }, 'n');
    expect(certificateConfig(request)).toContain('subjectAltName = DNS:*.a.org, IP:::1\n');
    expect(certificateConfig(request)).toContain('extendedKeyUsage = clientAuth\n');
  });
});

test('the help of the commands about certificates fits into 80 columns', () => {
  const lines = Object.values(CERTS_HELP).flatMap(({ description, after }) =>
    `${description}\n${after}`.split('\n'),
  );
  expect(lines.filter((line) => line.length > 80)).toEqual([]);
});

describe('kaon master --listen', () => {
  test.each([
    ['7420', { host: '127.0.0.1', port: 7420 }],
    ['10.0.0.5:80', { host: '10.0.0.5', port: 80 }],
    ['node7:0', { host: 'node7', port: 0 }],
    ['[::1]:7420', { host: '::1', port: 7420 }],
  ])('%s is %j', (listen, address) => {
    expect(parseListenOptions({ listen })).toEqual({ listen: { ...address, insecure: false } });
  });

  test.each([['x'], ['a:b'], ['70000'], [':80'], ['::1:80'], ['[a]:80'], ['a b:80'], ['']])(
    '%p is an error',
    (listen) => {
      expect(() => parseListenOptions({ listen })).toThrow('not a [HOST:]PORT');
    },
  );

  test.each([
    [{ tlsCert: '/c' }, '--tls-cert is for the HTTP API'],
    [{ listenInsecure: true }, '--listen-insecure is for the HTTP API'],
    [{ listen: '1', tlsKey: '/k' }, '--tls-key needs --tls-cert'],
  ])('%j is an error: %s', (raw, why) => {
    expect(() => parseListenOptions(raw)).toThrow(why);
  });
});
