import { expect, test } from '@jest/globals';
import {
  isTaskSlice,
  sliceCgroup,
  taskSliceName,
  unitOfPath,
  unitPath,
} from '../../../systemd/names.ts';

test('object paths name units, there and back', () => {
  expect(unitPath('kaon-a:1.service')).toBe(
    '/org/freedesktop/systemd1/unit/kaon_2da_3a1_2eservice',
  );
  expect(unitOfPath(unitPath('kaon-web:1_x.service'))).toBe('kaon-web:1_x.service');
  expect(unitOfPath('/org/freedesktop/systemd1/job/1')).toBeUndefined();
});

test('the slice of a task is one level below the slice of its framework', () => {
  const slice = taskSliceName('kaon-web.slice', 'kaon-web-1-a.service');
  expect(slice).toBe('kaon-web-web:1:a.slice');
  expect(sliceCgroup(slice)).toBe('/kaon.slice/kaon-web.slice/kaon-web-web:1:a.slice');
});

test('units with different names have different slices', () => {
  expect(taskSliceName('kaon.slice', 'kaon-a-b.service')).not.toBe(
    taskSliceName('kaon.slice', 'kaon-a:b.service'),
  );
});

test('a slice is told apart from those of other units', () => {
  expect(isTaskSlice('kaon-web-a.slice', 'kaon-a.service')).toBe(true);
  expect(isTaskSlice('kaon-web-a.slice', 'kaon-b.service')).toBe(false);
  expect(isTaskSlice('kaon.slice', 'kaon-keeper.service')).toBe(false);
});
