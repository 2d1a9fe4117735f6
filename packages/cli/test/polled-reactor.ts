// A reactor that runs for as long as it is held, for the ends that a test plays itself.
import { Reactor } from '@ambit/native';

export function polled() {
  const reactor = new Reactor();
  const running = { is: true };
  const polling = (async () => {
    while (running.is) await reactor.pollAsync(-1);
  })();
  return {
    reactor,
    [Symbol.asyncDispose]: async () => {
      running.is = false;
      reactor.close();
      await polling;
    },
  };
}
