export { type ContainerView } from './containers/containers.ts';
export { type LocalDirectories, localDirectories, localPaths, type LocalPaths, sharedRuntime } from './directories.ts';
export { LocalError, type LocalErrorCode } from './errors.ts';
export { type LocalAgentOptions, runLocalAgent } from './local-agent.ts';
export { PortForwarder } from './published-port.ts';
export { etcOf, removeLeftovers, runningWorkloads } from './leftovers.ts';
export { type WorkloadView } from './local-workloads.ts';
export { removeHostNetwork } from './net/host-network.ts';
export { claimDirectory } from './own-directory.ts';
export { signalProcess } from './process-identity.ts';
export { olderLog, RotatingLog } from './rotating-log.ts';
export { enterWorkload } from './run/enter.ts';
export { openHostPorts } from './run/host-ports.ts';
export { launch, type AskAgent, type Launched } from './run/launch.ts';
export { runUser, type RunUser } from './run/run-user.ts';
export { askJson } from './up/ask.ts';
export { Supervisor, type SupervisorOptions } from './up/supervisor.ts';
export { isUp, PART_NAMES, type PartName, type PartState, readUpStatus, type UpStatus } from './up/up-status.ts';
export { findWayOut, keepWayOut, type WayOutStatus, type WayOutTool } from './up/way-out.ts';
export {
  checkNames,
  parsePublish,
  parseService,
  type PublishedPort,
  type ServicePort,
  type Workload,
  workloadKey,
  type WorkloadRequest,
} from './workload.ts';
