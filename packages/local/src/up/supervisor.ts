// The process behind `ambit up`: starts control plane, agent and ztunnel in this order, keeps each running, and ends them
// in reverse. It holds no state of the mesh: when it dies its parts do, workloads stay protected by the rules in their
// networks, and the next one finds everything in the directories.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorText, type Log } from '@ambit/log';
import { type LocalDirectories, localPaths } from '../directories.ts';
import { LocalError } from '../errors.ts';
import { raiseLoopback } from '../net/host-network.ts';
import { NODE_NAME, ROOT_NAMESPACE } from '../objects.ts';
import { identifyProcess } from '../process-identity.ts';
import { askJson, askText } from './ask.ts';
import { Part } from './part.ts';
import { PART_NAMES, type PartName, readUpStatus, writeUpStatus } from './up-status.ts';
import { awaitWayOut, mountResolvers, type WayOutStatus, type WayOutTool } from './way-out.ts';

export interface SupervisorOptions {
  readonly directories: LocalDirectories;
  /** Program and arguments of the `ambit` command. */
  readonly ambit: readonly string[];
  /** In a user's own namespaces: the network begins with a loopback that is down. */
  readonly isRootless: boolean;
  /** Kept by whoever started us, who waits for our word; then `isRootless` is true. */
  readonly wayOut?: WayOutTool | undefined;
  /** Who may start workloads besides root. */
  readonly ownerUid: number;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Log;
}

const CONTROL_PORT = 15012;
const CONTROL_ADMIN = 'http://127.0.0.1:15014';
const ZTUNNEL_READY = 'http://127.0.0.1:15021/healthz/ready';
const CONTROL_URL = `https://127.0.0.1:${CONTROL_PORT}`;
const ZTUNNEL_ACCOUNT = 'ztunnel';
/** Good for 30 days; renewed in the file long before, which the proxy reads at each connect. */
const TOKEN_RENEWAL_MS = 24 * 3600 * 1000;

export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #paths: ReturnType<typeof localPaths>;
  readonly #parts: Readonly<Record<PartName, Part>>;
  readonly #startedAt = new Date().toISOString();
  #tokenTimer: NodeJS.Timeout | undefined;
  #wayOut: WayOutStatus | undefined;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#paths = localPaths(options.directories);
    const part = (name: PartName, plan: Omit<Part['plan'], 'name' | 'logPath'>) =>
      new Part({ name, logPath: join(this.#paths.logs, `${name}.log`), ...plan }, options.log, () => this.#publish());
    this.#parts = {
      control: part('control', {
        command: this.#controlCommand(),
        env: async () => this.#environment(),
        readiness: async () => askText(`${CONTROL_ADMIN}/ready`),
      }),
      agent: part('agent', {
        command: [...options.ambit, 'local-agent', JSON.stringify({ ...options.directories, uid: options.ownerUid })],
        env: async () => this.#environment(),
        readiness: async () => void (await askJson(this.#paths.localSocket, 'GET', '/v1/workloads')),
      }),
      ztunnel: part('ztunnel', {
        command: [...options.ambit, 'ztunnel'],
        env: async () => this.#ztunnelEnvironment(),
        readiness: async () => askText(ZTUNNEL_READY),
      }),
    };
  }

  /** Resolves when all parts have been ready once. @throws local.running when another supervisor has the directory */
  async start(): Promise<void> {
    const other = readUpStatus(this.#paths.upStatus);
    if (other !== undefined && other.supervisor.pid !== process.pid) {
      throw new LocalError(
        'local.running',
        `the mesh of this machine is up already, by process ${other.supervisor.pid}`,
        {
          where: this.#options.directories.run,
          next: 'ambit down ends it',
        },
      );
    }
    // Others than root go through it, to the socket that is theirs and to their workloads' files.
    mkdirSync(this.#options.directories.run, { recursive: true, mode: 0o755 });
    for (const path of [this.#paths.controlState, this.#paths.logs, this.#paths.agentRun, this.#paths.runObjects]) {
      mkdirSync(path, { recursive: true, mode: 0o700 });
    }
    mkdirSync(this.#paths.userObjects, { recursive: true, mode: 0o755 });
    if (this.#options.isRootless) raiseLoopback();
    this.#publish();
    if (this.#options.wayOut !== undefined) await this.#openWayOut(this.#options.wayOut);
    for (const name of PART_NAMES) await this.#parts[name].start();
    this.#tokenTimer = setInterval(() => void this.#writeToken().catch(() => undefined), TOKEN_RENEWAL_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#tokenTimer);
    for (const name of PART_NAMES.toReversed()) await this.#parts[name].stop();
  }

  /** Before the parts: the agent chooses addresses that are not the way's, and the proxy reads who resolves names. */
  async #openWayOut(tool: WayOutTool): Promise<void> {
    this.#wayOut = await awaitWayOut(tool);
    this.#publish();
    if (!this.#wayOut.isThere) this.#options.log.warn('No way out yet', { tool, log: this.#paths.wayOutLog });
    try {
      mountResolvers(tool, this.#paths.resolvers);
    } catch (error) {
      this.#options.log.warn("Cannot lead to the host's resolvers", { error: errorText(error) });
    }
  }

  #controlCommand(): string[] {
    const flags = {
      '--state': this.#paths.controlState,
      '--kubernetes': 'off',
      '--grpc-address': 'off',
      '--secure-grpc-address': `127.0.0.1:${CONTROL_PORT}`,
      '--admin-address': '127.0.0.1:15014',
      '--serving-names': '127.0.0.1',
      '--allocate-addresses': 'true',
    };
    const paths = [this.#paths.runObjects, this.#paths.userObjects];
    return [...this.#options.ambit, 'control', ...Object.entries(flags).flat(), ...paths];
  }

  /** Settings of whoever called must not change what runs for everybody; what Node and the system need goes through. */
  #environment(): Record<string, string | undefined> {
    const { env } = this.#options;
    const kept = ['PATH', 'HOME', 'LANG', 'TZ', 'TMPDIR', 'NODE_COMPILE_CACHE', 'RUST_LOG', 'LOG_LEVEL', 'LOG_FORMAT'];
    return Object.fromEntries(kept.flatMap(name => (env[name] === undefined ? [] : [[name, env[name]]])));
  }

  async #ztunnelEnvironment(): Promise<Record<string, string | undefined>> {
    await this.#writeToken();
    const root = join(this.#paths.controlState, 'root-cert.pem');
    return {
      ...this.#environment(),
      XDS_ADDRESS: CONTROL_URL,
      CA_ADDRESS: CONTROL_URL,
      XDS_ROOT_CA: root,
      CA_ROOT_CA: root,
      AUTH_TOKEN: this.#paths.token,
      CRL_PATH: join(this.#paths.controlState, 'crl.pem'),
      NODE_NAME,
      POD_NAMESPACE: ROOT_NAMESPACE,
      SERVICE_ACCOUNT: ZTUNNEL_ACCOUNT,
      INPOD_UDS: this.#paths.ztunnelSocket,
      // What the machine's workloads do is nobody's business among them.
      AMBIT_METRICS_ADDRESS: '127.0.0.1',
    };
  }

  async #writeToken(): Promise<void> {
    const bearer = { node: NODE_NAME, namespace: ROOT_NAMESPACE, serviceAccount: ZTUNNEL_ACCOUNT };
    const answer = await askJson(join(this.#paths.controlState, 'admin.sock'), 'POST', '/ca/token', bearer);
    const { token } = answer as { readonly token?: unknown };
    if (typeof token !== 'string') throw new LocalError('local.part_failed', 'the control plane gave no token');
    // Without a line break, which no header may hold.
    writeFileSync(this.#paths.token, token, { mode: 0o600 });
  }

  #publish(): void {
    const supervisor = identifyProcess(process.pid);
    if (supervisor === undefined) return;
    const of = <T>(pick: (part: Part) => T): Record<PartName, T> => {
      const { control, agent, ztunnel } = this.#parts;
      return { control: pick(control), agent: pick(agent), ztunnel: pick(ztunnel) };
    };
    writeUpStatus(this.#paths.upStatus, {
      supervisor,
      startedAt: this.#startedAt,
      isRootless: this.#options.isRootless,
      wayOut: this.#wayOut,
      parts: of(({ state }) => state),
      restarts: of(({ restarts }) => restarts),
      failures: of(({ failure }) => failure),
    });
  }
}
