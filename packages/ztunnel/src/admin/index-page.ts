// The page at `/`: how the proxy is, its certificates, and what else can be asked. One self-contained document without
// scripts, readable on a phone and in the dark. Nothing in it is secret; every text that came from elsewhere is escaped.
import type { CertificateView } from './certificates-view.ts';
import type { LifeReport } from './life-report.ts';

export interface IndexFacts {
  readonly version: string;
  readonly node: string;
  readonly mode: string;
  readonly life: LifeReport;
  readonly nowMs: number;
  readonly pods: number;
  readonly workers: number;
  readonly logFilter: string;
  readonly certificates: readonly CertificateView[];
}

/** Paths and what they are for, in the order of the page. */
const ENDPOINTS: readonly (readonly [method: string, path: string, meaning: string])[] = [
  [
    'GET',
    '/config_dump',
    'mesh, certificates, configuration, live connections as JSON; istioctl ztunnel-config reads it',
  ],
  ['GET', '/edges', 'who talks to whom, how it is protected and how it goes; ambit top shows it'],
  ['GET', '/findings', 'what is not as it was, with evidence and a next step'],
  ['GET', '/records', 'live, a line each: ?from=&amp;to=&amp;denied&amp;l7; ambit tap shows it'],
  ['GET', '/certs', 'certificates by identity: end, renewal, last error'],
  ['GET', '/state', 'starting, serving or draining, and what readiness waits for'],
  ['POST', '/logging', 'log levels, without a restart: ?level=access:debug,info or ?reset'],
  ['GET', '/debug/pprof/profile', 'CPU profile for pprof: ?seconds=10&amp;frequency=100'],
  ['GET', '/debug/pprof/heap', 'heap profile for pprof, while sampling is on'],
  ['GET', '/debug/pprof/heap/profiling', 'heap sampling: ?activate=true or false'],
  ['POST', '/quitquitquit', 'drain and end'],
];

const MAX_CERTIFICATES = 50;

const STYLE = `
:root{color-scheme:light dark;--line:#8884;--quiet:#666;--good:#1a7f37;--bad:#b42318}
@media(prefers-color-scheme:dark){:root{--quiet:#aaa;--good:#3fb950;--bad:#ff7b72}}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem}
h1{font-size:1.25rem;margin:0}h2{font-size:1rem;margin:1.5rem 0 .25rem}
p,dd{margin:0}.quiet{color:var(--quiet)}.good{color:var(--good)}.bad{color:var(--bad)}
dl{margin:0}dl div{border-top:1px solid var(--line);padding:.4rem 0}
code,a{font-family:ui-monospace,monospace;font-size:.9em;overflow-wrap:anywhere}
small{display:inline-block;min-width:2.6rem;color:var(--quiet)}`;

export function indexPage(facts: IndexFacts): string {
  const { life } = facts;
  const isWell = life.state === 'serving' && life.pending.length === 0;
  const waiting = life.pending.length === 0 ? '' : ` · not ready, pending: ${escape(life.pending.join(', '))}`;
  const cause = life.cause === undefined ? '' : ` · ${escape(life.cause)}`;
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Ambit node proxy</title><style>${STYLE}</style></head>
<body>
<h1>Ambit node proxy</h1>
<p><strong class="${isWell ? 'good' : 'bad'}">${life.state}</strong> for ${duration(facts.nowMs - life.sinceMs)}${cause}${waiting}</p>
<p class="quiet">node ${escape(facts.node)} · ${escape(facts.mode)} · ${counted(facts.pods, 'pod')} · ${counted(facts.workers, 'worker')} · version ${escape(facts.version)}</p>
<h2>Endpoints</h2>
<dl>
${ENDPOINTS.map(endpoint).join('\n')}
</dl>
<h2>Certificates</h2>
${certificates(facts.certificates)}
<h2>Log</h2>
<p><code>${escape(facts.logFilter)}</code></p>
</body>
</html>
`;
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

function endpoint([method, path, meaning]: (typeof ENDPOINTS)[number]): string {
  const name = method === 'GET' ? `<a href="${path}">${path}</a>` : `<code>${path}</code>`;
  return `<div><dt><small>${method}</small> ${name}</dt><dd class="quiet">${meaning}</dd></div>`;
}

function certificates(views: readonly CertificateView[]): string {
  if (views.length === 0) return '<p class="quiet">none yet</p>';
  const shown = views.slice(0, MAX_CERTIFICATES).map(certificate).join('\n');
  const more =
    views.length > MAX_CERTIFICATES ? `<p class="quiet">and ${views.length - MAX_CERTIFICATES} more</p>` : '';
  return `<dl>\n${shown}\n</dl>${more}`;
}

function certificate(view: CertificateView): string {
  const { expiresInSeconds, lastError } = view;
  const isGood = view.state === 'available' && (expiresInSeconds ?? 0) > 0;
  const left = isGood ? `good for ${duration((expiresInSeconds ?? 0) * 1000)}` : view.state;
  const error = lastError === null ? '' : ` · ${escape(lastError.message)}`;
  return `<div><dt><code>${escape(view.identity)}</code></dt><dd class="${isGood ? 'quiet' : 'bad'}">${left}${error}</dd></div>`;
}

function duration(ms: number): string {
  const minutes = Math.floor(Math.max(0, ms) / 60_000);
  if (minutes >= 2 * 24 * 60) return `${Math.floor(minutes / 1440)} d`;
  if (minutes >= 120) return `${Math.floor(minutes / 60)} h`;
  return minutes >= 1 ? `${minutes} min` : `${Math.floor(Math.max(0, ms) / 1000)} s`;
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`);
}
