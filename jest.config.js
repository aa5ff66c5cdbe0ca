// One configuration for every kind of test. Which kinds run, and how, is scripts/test.mjs's business:
// `npx jest` cannot be called directly because ES modules need a flag of node (see CONTRIBUTING.md).

/** @type {import('jest').Config} */
export default {
  testEnvironment: 'node',
  // Its own choice is below /tmp, and stays there.
  cacheDirectory: '<rootDir>/node_modules/.cache/jest',
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  extensionsToTreatAsEsm: ['.ts'],
  transform: { '\\.ts$': '<rootDir>/scripts/jest-esbuild.mjs' },
  moduleFileExtensions: ['ts', 'js', 'mjs', 'cjs', 'json'],
  // A built bundle beside the sources would be found twice by the file crawler.
  modulePathIgnorePatterns: ['<rootDir>/dist/'],
  // Two cores are what the smallest machine of ours has, and the system tests need one for themselves.
  maxWorkers: 2,
  // Nothing is measured by it: a test that hangs should end, and one on a busy machine should not.
  testTimeout: 120_000,
  // Tests import from `@jest/globals`, which is what gives them types.
  injectGlobals: false,
  coverageProvider: 'v8',
};
