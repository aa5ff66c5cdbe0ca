// A whole framework: asks for half a core, launches one task on the offer, says how it ended, and leaves.
import { SchedulerDriver, isTerminal } from 'kaon/framework';

const resources = { cpuMillis: 500, memMib: 64 };
const driver = new SchedulerDriver(
  {
    registered: (driver) => driver.requestResources([{ resources }]),
    resourceOffers: (driver, [offer]) => {
      const command = { argv: ['echo', 'hello'] };
      driver.launchTasks(offer.offerId, [{ taskId: 'hello', name: 'hello', resources, command }]);
      driver.requestResources([]);
    },
    statusUpdate: (driver, { state, message }) => {
      console.log(state, message ?? '');
      if (isTerminal(state)) void driver.stop();
    },
  },
  { name: 'hello' },
  { redis: process.env.KAON_REDIS },
);
await driver.run();
