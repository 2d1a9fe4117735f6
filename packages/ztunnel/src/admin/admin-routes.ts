// What the admin endpoint answers to which path and method. State is changed by POST alone, save heap sampling, which
// upstream's tools turn on with GET; everything else is for reading.
import type { CertificateView } from './certificates-view.ts';
import { certificateViews } from './certificates-view.ts';
import { configDump, type DumpDeps } from './config-dump.ts';
import { indexPage } from './index-page.ts';
import type { LifeReport } from './life-report.ts';
import { logging, LOGGING_HELP, type LogLevels } from './logging-endpoint.ts';
import type { ProfileEndpoints } from './profile-endpoints.ts';
import { json, type Reply, text } from './reply.ts';
import { Slicer } from './slicer.ts';

export interface AdminDeps extends DumpDeps {
  readonly log: LogLevels;
  readonly life: () => LifeReport;
  /** Begins the drain. */
  readonly quit: () => void;
  readonly now: () => number;
  /** Of other parts of the proxy. */
  readonly more: ReadonlyMap<string, AdminRoute>;
}

export interface AdminRoute {
  readonly methods: readonly string[];
  /** The answer to every other method. */
  readonly refusal?: Reply;
  /** Whether it takes long or much: at most a few of these run at once. */
  readonly isHeavy?: true;
  /** @param signal when the reader has gone */
  readonly answer: (query: URLSearchParams, signal: AbortSignal) => Reply | Promise<Reply>;
}

const READ = ['GET', 'HEAD'];

export function adminRoutes(deps: AdminDeps): ReadonlyMap<string, AdminRoute> {
  let profiling: ProfileEndpoints | undefined;
  // Loaded when somebody profiles, which hardly anybody does.
  const profiles = async (): Promise<ProfileEndpoints> => {
    const { ProfileEndpoints: Endpoints } = await import('./profile-endpoints.ts');
    return (profiling ??= new Endpoints(deps.workers));
  };
  return new Map<string, AdminRoute>([
    ['/', { methods: READ, answer: () => index(deps) }],
    [
      '/config_dump',
      {
        methods: READ,
        isHeavy: true,
        answer: () => ({ status: 200, type: 'application/json', body: configDump(deps, new Slicer()) }),
      },
    ],
    ['/certs', { methods: READ, answer: () => json({ certificates: views(deps) }) }],
    ['/state', { methods: READ, answer: () => json(state(deps)) }],
    [
      '/logging',
      {
        methods: ['POST'],
        refusal: text(405, `Invalid HTTP method\n${LOGGING_HELP}`),
        answer: query => logging(deps.log, query),
      },
    ],
    [
      '/quitquitquit',
      {
        methods: ['POST'],
        refusal: text(405, 'Invalid HTTP method\n'),
        answer: () => {
          deps.quit();
          return text(200, 'shutdown now\n');
        },
      },
    ],
    [
      '/debug/pprof/profile',
      { methods: ['GET'], answer: async (query, signal) => (await profiles()).cpu(query, signal) },
    ],
    ['/debug/pprof/heap', { methods: ['GET'], isHeavy: true, answer: async () => (await profiles()).heap() }],
    [
      '/debug/pprof/heap/profiling',
      { methods: ['GET', 'POST'], answer: async query => (await profiles()).heapSampling(query) },
    ],
    ...deps.more,
  ]);
}

function index(deps: AdminDeps): Reply {
  const { config } = deps;
  const body = indexPage({
    version: deps.version,
    node: config.nodeName ?? 'unnamed',
    mode: config.proxyMode,
    life: deps.life(),
    nowMs: deps.now(),
    pods: deps.pods().length,
    workers: deps.workers.count,
    logFilter: deps.log.filter.toString(),
    certificates: views(deps),
  });
  const headers = { 'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'" };
  return { status: 200, type: 'text/html; charset=utf-8', body, headers };
}

function views(deps: AdminDeps): readonly CertificateView[] {
  return certificateViews(deps.certificates.identityStates(), deps.now());
}

function state(deps: AdminDeps): object {
  const { state: phase, sinceMs, cause, pending } = deps.life();
  return {
    state: phase,
    since: new Date(sinceMs).toISOString(),
    cause: cause ?? null,
    pending,
    pods: deps.pods().length,
    workers: deps.workers.count,
  };
}
