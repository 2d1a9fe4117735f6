// `ambit exec`: one more command in a running workload's network.
import { enterWorkload, runUser } from '@ambit/local';
import { processOutput } from '../render/output.ts';
import { rootlessStatus, runInside } from './rootless.ts';
import { directoriesOf, findWorkload, type MeshFlags, tell, uid } from './local-mesh.ts';

export async function exec(name: string, command: readonly string[], flags: MeshFlags): Promise<number> {
  try {
    const own = rootlessStatus(flags);
    if (own !== undefined) return await runInside(own, flags);
    const workload = await findWorkload(directoriesOf(flags), name);
    // Commander leaves it where it stands after the first argument.
    const words = command[0] === '--' ? command.slice(1) : command;
    return await enterWorkload(workload, words, runUser(process.env, uid, process.getgid?.() ?? 0), process.env);
  } catch (error) {
    return tell(processOutput(), error);
  }
}
