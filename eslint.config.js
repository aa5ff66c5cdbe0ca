// Lint: the rules that have caught real faults in code like ours, and limits on
// sizes, so that one function stays one thought. Formatting is Prettier's.
// Rules about the whole tree (folder layering, cycles, docstrings) are in test/tidy.test.ts.

import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

/**
 * A core is synchronous and pure (ARCHITECTURE.md): time, chance and ids come in as values, and everything else
 * goes out as effects. One forgotten `Date.now()` and a failing seed no longer replays.
 */
const BANNED_GLOBALS = [
  ['process', 'configuration and signals belong to the shell'],
  ['Date', 'time enters as `nowMs`'],
  ['performance', 'time enters as `nowMs`'],
  ['setTimeout', 'return an effect or compare deadlines with `nowMs`'],
  ['setInterval', 'return an effect or compare deadlines with `nowMs`'],
  ['setImmediate', 'a core never yields'],
  ['queueMicrotask', 'a core never yields'],
  ['Promise', 'a core is synchronous'],
  ['console', 'return an effect; the shell logs'],
  ['crypto', 'ids and chance enter as values'],
  ['fetch', 'return an effect'],
];

const pureCode = {
  'no-restricted-globals': [
    'error',
    ...BANNED_GLOBALS.map(([name, message]) => ({ name, message })),
  ],
  'no-restricted-properties': [
    'error',
    { object: 'Math', property: 'random', message: 'chance enters as `Random`' },
    { object: 'globalThis', message: 'a core has no environment' },
  ],
  'no-restricted-syntax': [
    'error',
    { selector: ':function[async=true]', message: 'a core is synchronous' },
    { selector: 'AwaitExpression', message: 'a core is synchronous' },
    { selector: 'ForOfStatement[await=true]', message: 'a core is synchronous' },
    { selector: 'ImportExpression', message: 'a core is synchronous' },
    // `no-restricted-globals` sees values only.
    { selector: 'TSTypeReference[typeName.name="Promise"]', message: 'a core is synchronous' },
    { selector: 'TSTypeReference[typeName.name="Date"]', message: 'time is a number, `nowMs`' },
  ],
};

const pureImports = {
  'no-restricted-imports': [
    'error',
    {
      patterns: [
        {
          // Neither a relative path nor the one module of node that only compares.
          regex: '^(?!\\.{1,2}/|node:assert/strict$)',
          message: 'pure code imports protocol/, its own folder and node:assert/strict',
        },
        {
          regex: '(^|/)(io|master|agent|executor|framework|schedulers|mesos|cli|ui|test|bench)/',
          message: 'pure code imports protocol/ and its own folder',
        },
        { regex: '/main\\.ts$', message: 'nothing imports a main.ts' },
      ],
    },
  ],
};

export default defineConfig(
  { ignores: ['dist/', 'coverage/', 'node_modules/', 'ui/'] },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  {
    files: ['**/*.{js,mjs}'],
    rules: { eqeqeq: 'error', 'no-var': 'error', 'prefer-const': 'error', 'no-empty': 'error' },
  },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.base],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      // A lost promise is our likeliest bug: an un-awaited command of ioredis fails where nobody looks.
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/await-thenable': 'error',
      // Inside `try`, a returned promise that is not awaited escapes the `catch`.
      '@typescript-eslint/return-await': ['error', 'error-handling-correctness-only'],
      // A message or state that a later version adds must not fall through somewhere.
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/only-throw-error': 'error',
      '@typescript-eslint/no-unnecessary-type-assertion': 'error',
      eqeqeq: 'error',
      'no-var': 'error',
      'prefer-const': 'error',
      // An empty `catch` must say in a comment why it is safe.
      'no-empty': 'error',
      'no-console': 'error',
      // A `switch` counts as one: going over all members of a union is simple however many there are.
      complexity: ['error', { max: 12, variant: 'modified' }],
      'max-params': ['error', 4],
      'max-lines': ['error', 400],
      'max-lines-per-function': ['error', { max: 70, skipBlankLines: true, skipComments: true }],
    },
  },
  {
    files: ['**/core/**/*.ts', 'systemd/{properties,names,reread,sandboxing}.ts'],
    rules: { ...pureCode, ...pureImports },
  },
  {
    // A port is made of promises, but what it names must be known to the fake and to the simulator.
    files: ['systemd/port.ts'],
    rules: pureImports,
  },
  {
    // What writes for a person, on a terminal.
    files: ['cli/**/*.ts', 'bench/**/*.ts', 'examples/**/*.ts'],
    rules: { 'no-console': 'off' },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: {
      'max-lines': 'off',
      'max-lines-per-function': 'off',
      'max-params': 'off',
      complexity: 'off',
    },
  },
);
