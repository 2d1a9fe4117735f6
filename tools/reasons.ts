// Writes docs/reasons/: one page an area, from the one table of reason codes (packages/mesh/src/reasons.ts). Run by
// `npm run docs`; tools/reasons.test.ts fails when table and pages differ, either way.

import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { REASONS, type Reason } from '@ambit/mesh';

export const REASONS_FOLDER = resolve(import.meta.dirname, '../docs/reasons');

/** What each area is about. An area of the table that is missing here is an error, so that nobody forgets. */
const AREAS: Readonly<Record<string, string>> = {
  policy: 'an authorization policy decided',
  identity: 'who a workload is, or claims to be',
  tls: 'the handshake or the records of mutual TLS',
  hbone: 'HTTP/2 CONNECT, the tunnel between proxies',
  route: 'where a connection should go',
  dial: 'TCP connects to an application or to another proxy',
  peer: 'what the other end did',
  drain: 'a proxy or a pod is going away in good order',
  limit: 'a bound that protects everybody else',
  enrol: 'adding a pod to the mesh',
  audit: 'proving that pods are what they should be',
  dns: 'answering and forwarding names',
  ca: 'the certificate authority',
  xds: 'what the control plane sends',
  config: 'files and environment variables',
};

/** Name of each page -> its text. */
export function renderReasons(reasons: readonly Reason[]): ReadonlyMap<string, string> {
  const areas = new Map<string, Reason[]>();
  for (const reason of reasons) {
    const area = reason.code.slice(0, reason.code.indexOf('.'));
    if (AREAS[area] === undefined) throw new Error(`tools/reasons.ts does not say what the area ${area} is about`);
    areas.set(area, [...(areas.get(area) ?? []), reason]);
  }
  const pages = new Map<string, string>([['README.md', indexPage(areas)]]);
  for (const [area, members] of areas) pages.set(`${area}.md`, areaPage(area, members));
  return pages;
}

const GENERATED = '<!-- made by `npm run docs` from packages/mesh/src/reasons.ts; edit there -->\n';

function indexPage(areas: ReadonlyMap<string, readonly Reason[]>): string {
  const rows = [...areas].map(
    ([area, members]) =>
      `| [${area}](${area}.md) | ${AREAS[area]} | ${members.map(({ code }) => `[${code}](${area}.md#${anchor(code)})`).join(', ')} |`,
  );
  return `${GENERATED}
# Reason codes

Every refusal and every cut has one code, the same in logs, records, metrics and commands. Codes are stable: scripts may
match on them. The response flag beside a code is the one Istio's metrics and access logs use for it.

| area | about | codes |
|---|---|---|
${rows.join('\n')}
`;
}

function areaPage(area: string, members: readonly Reason[]): string {
  const entries = members.map(({ code, sentence, flag, hint }) => {
    const flagText = flag === '-' ? 'none' : `\`${flag}\``;
    return `## ${code}\n\n${capital(sentence)}.\n\nNext: ${hint}.\n\nResponse flag: ${flagText}\n`;
  });
  return `${GENERATED}\n# ${area}: ${AREAS[area]}\n\n${entries.join('\n')}`;
}

/** How GitHub makes an anchor of a heading. */
function anchor(code: string): string {
  return code.replaceAll('.', '');
}

function capital(sentence: string): string {
  // Names that are written in lower case or in capitals stay as they are.
  return /^[a-z]+ /.test(sentence) ? sentence.charAt(0).toUpperCase() + sentence.slice(1) : sentence;
}

if (import.meta.main) {
  const pages = renderReasons(REASONS);
  mkdirSync(REASONS_FOLDER, { recursive: true });
  for (const name of readdirSync(REASONS_FOLDER)) if (!pages.has(name)) rmSync(join(REASONS_FOLDER, name));
  for (const [name, text] of pages) writeFileSync(join(REASONS_FOLDER, name), text);
  console.log(`${REASONS.length} reason codes on ${pages.size} pages in docs/reasons`);
}
