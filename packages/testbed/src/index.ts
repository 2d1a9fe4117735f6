export { describeTestbedError, TestbedError, type TestbedErrorCode, type TestbedErrorDetail } from './errors.ts';
export {
  enterSandbox,
  insideSandbox,
  SANDBOX_DIR,
  type SandboxAbility,
  type SandboxOptions,
  sandboxAbility,
} from './sandbox.ts';
export { requireSandbox, sandboxSkip } from './sandbox-skip.ts';
export { applyRedirect, removeRedirect } from './redirect-apply.ts';
export { renderRedirect, renderRedirectRemoval, routeCommands } from './redirect.ts';
export { type CommandOptions, type CommandResult, mustRun, runCommand } from './run-command.ts';
export { type Netns, type NodeNet, type PodNet, Topology } from './topology.ts';
