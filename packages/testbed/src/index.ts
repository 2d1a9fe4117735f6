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
