import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  createAssembler,
  dropFrames,
  FRAMED_TEXT_MAX_CHARS,
  splitIntoFrames,
  takeFrame,
  type FramePart,
} from '../../../schedulers/bullmq/core/frames.ts';
import { DATA_MAX_CHARS } from '../../../protocol/limits.ts';

const ADDRESS = { taskId: 't1', sequence: 1 };

const read = (frame: string): FramePart => JSON.parse(frame) as FramePart;

/** What comes out of an assembler, text by text. */
function assemble(frames: readonly string[], unfinishedMax = 10): string[] {
  const assembler = createAssembler({ unfinishedMax });
  return frames.flatMap((frame) => takeFrame(assembler, read(frame)) ?? []);
}

describe('frames', () => {
  test('of a short text are one', () => {
    expect(splitIntoFrames(ADDRESS, 'a').map(read)).toEqual([
      { taskId: 't1', sequence: 1, part: 0, parts: 1, text: 'a' },
    ]);
  });

  test('of an empty text are one', () => {
    expect(assemble(splitIntoFrames(ADDRESS, ''))).toEqual(['']);
  });

  test.each([
    ['letters', 'a'],
    ['quotes', '"'],
    ['control characters', '\u0000'],
    ['surrogate pairs', '😀'],
  ])('of many %s fit into messages, and make the text again', (_what, sign) => {
    const text = sign.repeat(150_000);
    const frames = splitIntoFrames(ADDRESS, text);
    expect(Math.max(...frames.map((frame) => frame.length))).toBeLessThanOrEqual(DATA_MAX_CHARS);
    expect(assemble(frames)).toEqual([text]);
  });

  test('make the text again in any order, some of them twice', () => {
    const texts = fc.array(fc.constantFrom('a', '"\\', '😀', 'ü', '\n'), { maxLength: 12 });
    fc.assert(
      fc.property(texts, fc.infiniteStream(fc.nat()), (signs, order) => {
        const text = signs.map((sign) => sign.repeat(20_000)).join('');
        const frames = splitIntoFrames(ADDRESS, text);
        const shuffled = [...frames, ...frames.slice(1)]
          .map((frame) => ({ frame, key: order.next().value ?? 0 }))
          .sort((a, b) => a.key - b.key)
          .map(({ frame }) => frame);
        expect(assemble(shuffled)[0]).toBe(text);
      }),
      { numRuns: 50 },
    );
  });

  test('of two texts do not mix', () => {
    const [a, b] = ['a', 'b'].map((sign) => sign.repeat(100_000));
    const framesA = splitIntoFrames(ADDRESS, a ?? '');
    const framesB = splitIntoFrames({ taskId: 't1', sequence: 2 }, b ?? '');
    const mixed = framesA.flatMap((frame, index) => [frame, framesB[index] ?? '']);
    expect(assemble(mixed)).toEqual([a, b]);
  });
});

describe('an assembler', () => {
  const part = (more: Partial<FramePart>): FramePart => ({
    ...ADDRESS,
    ...{ part: 0, parts: 2, text: 'x' },
    ...more,
  });

  test('gives up the text that was begun first when there are too many', () => {
    const assembler = createAssembler({ unfinishedMax: 2 });
    for (const taskId of ['t1', 't2', 't3']) takeFrame(assembler, part({ taskId }));
    expect([...assembler.unfinished.keys()]).toEqual(['1 t2', '1 t3']);
  });

  test('keeps nothing of a text that is too long', () => {
    const assembler = createAssembler({ unfinishedMax: 2 });
    takeFrame(assembler, part({ text: 'x'.repeat(FRAMED_TEXT_MAX_CHARS) }));
    expect(takeFrame(assembler, part({ part: 1 }))).toBeUndefined();
    expect(assembler.unfinished.size).toBe(0);
  });

  test.each([part({ part: 2 }), part({ parts: 1001 })])('takes no impossible frame', (frame) => {
    const assembler = createAssembler({ unfinishedMax: 2 });
    expect(takeFrame(assembler, frame)).toBeUndefined();
    expect(assembler.unfinished.size).toBe(0);
  });

  test('begins anew when a text has another number of parts', () => {
    const assembler = createAssembler({ unfinishedMax: 2 });
    takeFrame(assembler, part({ parts: 3, text: 'old' }));
    takeFrame(assembler, part({ text: 'a' }));
    expect(takeFrame(assembler, part({ part: 1, text: 'b' }))).toBe('ab');
  });

  test('forgets what is not wanted any more', () => {
    const assembler = createAssembler({ unfinishedMax: 2 });
    takeFrame(assembler, part({}));
    dropFrames(assembler, ADDRESS);
    expect(assembler.unfinished.size).toBe(0);
  });
});
