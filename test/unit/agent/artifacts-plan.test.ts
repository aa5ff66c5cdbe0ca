import { describe, expect, test } from '@jest/globals';
import { decodeDataUri } from '../../../agent/artifacts/data-uri.ts';
import { labelOf } from '../../../agent/artifacts/failure.ts';
import { checkLinkTarget, splitName } from '../../../agent/artifacts/names.ts';
import { planArtifacts, type PlannedArtifact } from '../../../agent/artifacts/plan.ts';
import { Uri } from '../../../protocol/command.ts';
import { messageOf } from '../../../protocol/errors.ts';

type Input = Partial<Uri> & { uri: string };

function plan(...uris: (Input | string)[]): PlannedArtifact[] {
  return planArtifacts(uris.map((uri) => Uri.parse(typeof uri === 'string' ? { uri } : uri)));
}

function refusalOf(refuse: () => unknown): string {
  try {
    refuse();
  } catch (error) {
    return messageOf(error);
  }
  return 'nothing was refused';
}

describe('the place of an artifact', () => {
  test.each<[Input, string]>([
    [{ uri: 'http://h/a/b.txt' }, 'file b.txt'],
    [{ uri: 'http://h/a%20b?x=/c#/d' }, 'file a b'],
    [{ uri: 'http://h/100%' }, 'file 100%'],
    [{ uri: 'file:///a/b%20c' }, 'file b c'],
    [{ uri: '/a/b%20c' }, 'file b%20c'],
    [{ uri: 'http://h/b', path: './x//y' }, 'file x/y'],
    [{ uri: 'data:,x', path: 'x' }, 'file x'],
    [{ uri: 'http://h/a.tar.gz' }, 'extract '],
    [{ uri: 'http://h/a.TAR' }, 'extract '],
    [{ uri: '/a.tgz', path: 'app' }, 'extract app'],
    [{ uri: 'http://h/a.zip', extract: false }, 'file a.zip'],
    [{ uri: 'http://h/a.zip', executable: true }, 'file a.zip'],
    [{ uri: 'http://h/a.tar.xz', extract: false }, 'file a.tar.xz'],
    [{ uri: 'http://h/download', extract: true }, 'extract '],
    [{ uri: 'http://h/download', extract: true, path: '.' }, 'extract '],
    [{ uri: 'http://h/archive.gz' }, 'file archive.gz'],
    [{ uri: 'http://h/x', path: 'a.zip' }, 'file a.zip'],
  ])('%j is %s', (uri, place) => {
    const [planned] = plan(uri);
    expect(`${planned?.action ?? ''} ${planned?.target.join('/') ?? ''}`).toBe(place);
  });

  test.each<[Input, string]>([
    [{ uri: 'http://h/' }, 'artifact http://h/: it has no name: give it a path'],
    [{ uri: 'http://h/a/' }, 'it has no name'],
    [{ uri: 'http://h/%2e%2e' }, 'it has no name'],
    [{ uri: 'http://h/..%2fx' }, '"../x" is no name for a file'],
    [{ uri: 'http://h/a%2fb' }, '"a/b" is no name for a file'],
    [{ uri: 'http://h/a%00b' }, 'its name has a NUL character'],
    [{ uri: '/a/..' }, '".." is no name for a file'],
    [{ uri: '/' }, 'it has no name'],
    [{ uri: 'http://h/x', path: '.' }, 'it has no name'],
    [{ uri: 'data:,x' }, 'artifact data:,...: it has no name'],
    [{ uri: 'ftp://h/x' }, 'it must be an http:, https:, file: or data: URI, or an absolute path'],
    [{ uri: 'x/y' }, 'it must be an http:'],
    [{ uri: 'http://' }, 'it is not a URI'],
    [{ uri: 'file://host/x' }, 'it must name a file of the node'],
    [{ uri: 'file:///x?y' }, '? and # must be percent-encoded in it'],
    [{ uri: 'file:///x#y' }, '? and # must be percent-encoded in it'],
    [{ uri: 'http://h/a.tar.xz' }, 'this kind of archive cannot be extracted: .tar, .tar.gz'],
    [{ uri: 'http://h/a.tar.bz2' }, 'this kind of archive cannot be extracted'],
    [{ uri: 'http://h/a.tar.zst', extract: true }, 'this kind of archive cannot be extracted'],
    [
      { uri: 'http://h/a.zip', extract: true, executable: true },
      'it cannot be both extracted and executable',
    ],
  ])('%j is refused: %s', (uri, words) => {
    expect(refusalOf(() => plan(uri))).toContain(words);
  });

  test.each<[string, Input[]]>([
    [
      'the same file',
      [
        { uri: 'http://h/1', path: 'x' },
        { uri: 'http://h/2', path: './x' },
      ],
    ],
    [
      'a file below a file',
      [
        { uri: 'http://h/1', path: 'x' },
        { uri: 'http://h/2', path: 'x/y' },
      ],
    ],
    [
      'a file above a file',
      [
        { uri: 'http://h/1', path: 'x/y' },
        { uri: 'http://h/2', path: 'x' },
      ],
    ],
    [
      'a file in place of a directory',
      [{ uri: 'http://h/1.zip', path: 'x' }, { uri: 'http://h/x' }],
    ],
  ])('may not be the one of another: %s', (_, uris) => {
    expect(refusalOf(() => plan(...uris))).toMatch(
      /is the place of http:\/\/h\/1(\.zip)? already$/,
    );
  });

  test('may be shared by archives, and by files in their directory', () => {
    const planned = plan('http://h/a.zip', 'http://h/b.tar', 'http://h/c', {
      uri: 'http://h/d.tgz',
      path: 'd',
    });
    expect(planned).toHaveLength(4);
  });
});

test('only downloads are kept', () => {
  const uris = ['http://h/x', 'https://h/y', 'file:///z', '/a', 'data:,b'];
  const planned = plan(...uris.map((uri, index) => ({ uri, cache: true, path: String(index) })));
  expect(planned.map(({ isCached }) => isCached)).toEqual([true, true, false, false, false]);
});

describe('the name of an artifact in messages', () => {
  test.each([
    ['http://me:secret@h:80/a?token=secret#x', 'http://h/a?...'],
    ['https://h/a', 'https://h/a'],
    ['data:text/plain;base64,c2VjcmV0', 'data:text/plain;base64,...'],
    ['/a/b', '/a/b'],
    ['/a\u001b[31m', '/a?[31m'],
    [`/${'x'.repeat(300)}`, `/${'x'.repeat(199)}...`],
  ])('of %s is %s', (uri, label) => {
    expect(labelOf(uri)).toBe(label);
  });
});

describe('a data: URI', () => {
  test.each([
    ['data:,a%20b', 'a b'],
    ['data:text/plain;charset=utf-8,gr%C3%BC%C3%9Fe', 'grüße'],
    ['data:,grüße', 'grüße'],
    ['data:,#!/bin/sh%0a', '#!/bin/sh\n'],
    ['data:,', ''],
    ['data:;base64,aGk=', 'hi'],
    ['data:;base64,aGk', 'hi'],
    ['DATA:text/plain;BASE64,aGk=', 'hi'],
    ['data:;base64,a Gk\n=', 'hi'],
  ])('%j holds %j', (uri, content) => {
    expect(decodeDataUri(uri).toString()).toBe(content);
  });

  test('may hold bytes that are no text', () => {
    expect([...decodeDataUri('data:,%ff%00a')]).toEqual([0xff, 0, 0x61]);
  });

  test.each([
    ['data:x', 'needs a comma'],
    ['data:,50%', 'a % that is not followed by two hexadecimal digits'],
    ['data:,%zz', 'a % that is not followed'],
    ['data:;base64,a*b', 'its data is not base64'],
    ['data:;base64,abcde', 'its data is not base64'],
  ])('%j is refused: %s', (uri, words) => {
    expect(refusalOf(() => decodeDataUri(uri))).toContain(words);
  });
});

describe('the name of an entry', () => {
  test.each([
    ['a/b', ['a', 'b']],
    ['./a//b/./', ['a', 'b']],
    ['...', ['...']],
    ['.', []],
    ['', []],
    ['a\\..\\b', ['a\\..\\b']],
  ])('%j has the parts %j', (name, parts) => {
    expect(splitName(name)).toEqual(parts);
  });

  test.each([
    ['/a', 'absolute'],
    ['..', 'leads out'],
    ['a/..', 'leads out'],
    ['a\0b', 'NUL'],
    [`${'a/'.repeat(3000)}a`, 'too long'],
  ])('%j is refused', (name, words) => {
    expect(refusalOf(() => splitName(name))).toContain(words);
  });
});

describe('a symbolic link', () => {
  test.each([
    ['l', 'x'],
    ['l', './x//y/'],
    ['a/l', '../x'],
    ['a/b/l', '../..'],
    ['a/b/l', '.././../x'],
  ])('%s may lead to %s', (name, target) => {
    expect(
      refusalOf(() => {
        checkLinkTarget(splitName(name), target);
      }),
    ).toBe('nothing was refused');
  });

  test.each([
    ['l', '..', 'outside of the directory'],
    ['a/l', '../../x', 'outside of the directory'],
    ['l', '/x', 'an absolute path'],
    ['l', 'a/../x', '.. is allowed at the beginning only'],
    ['a/b/l', '../x/..', '.. is allowed at the beginning only'],
    ['l', '', 'to nothing'],
    ['l', 'a\0', 'to nothing'],
  ])('%s may not lead to %j', (name, target, words) => {
    expect(
      refusalOf(() => {
        checkLinkTarget(splitName(name), target);
      }),
    ).toContain(words);
  });
});
