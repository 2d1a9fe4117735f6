export { BedAgent } from './bed-agent.ts';
export { type BedNode, Testbed, type TestbedOptions } from './bed.ts';
export type { BedPolicy, ServiceOptions } from './bed-state.ts';
export { ControlProcess, type ControlOptions } from './control-process.ts';
export { describeTestbedError, TestbedError, type TestbedErrorCode, type TestbedErrorDetail } from './errors.ts';
export { type MeshContents, renderMeshFile, writeMeshFile } from './mesh-file.ts';
export { Pod, type PodOptions } from './pod.ts';
export { type ExecOptions, NamespaceProcesses } from './processes.ts';
export { type CommandOptions, type CommandResult, mustRun, runCommand } from './run-command.ts';
export {
  enterSandbox,
  insideSandbox,
  SANDBOX_DIR,
  type SandboxAbility,
  type SandboxOptions,
  sandboxAbility,
} from './sandbox.ts';
export { requireSandbox, sandboxSkip } from './sandbox-skip.ts';
export { type Netns, type NodeNet, type PodNet, Topology } from './topology.ts';

export { type ProcessEnd, WatchedProcess } from './watched-process.ts';
export { type ZtunnelOptions, ZtunnelProcess } from './ztunnel-process.ts';
