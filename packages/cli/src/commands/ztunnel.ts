// `ambit ztunnel`: the node proxy as a process, by the command line of upstream's binary (`proxy` is the default word).
import { runZtunnel } from '@ambit/ztunnel';

export async function ztunnel(command: string | undefined): Promise<number> {
  if (command !== undefined && command !== 'proxy') {
    process.stderr.write(`error: unknown command "${command}" for ambit ztunnel; it takes proxy, or nothing\n`);
    return 1;
  }
  return runZtunnel(process.env);
}
