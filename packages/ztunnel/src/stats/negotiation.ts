// Which text and which coding a scraper gets (RFC 9110 12.5). The best acceptable format wins, OpenMetrics where both are
// equally welcome. Whoever does not say, or accepts nothing that there is, gets Prometheus' text, which everything reads.
import type { TextFormat } from '../metrics/family-text.ts';

interface Wish {
  /** Media range or coding, lower case. */
  readonly name: string;
  readonly version: string | undefined;
  readonly quality: number;
}

const OPENMETRICS_VERSIONS: ReadonlySet<string | undefined> = new Set([undefined, '1.0.0', '0.0.1']);
const TEXT_VERSIONS: ReadonlySet<string | undefined> = new Set([undefined, '0.0.4']);

/** For the value of an `Accept` header. */
export function chooseFormat(accept: string | undefined): TextFormat {
  const wishes = parse(accept ?? '');
  const openmetrics = best(wishes, ({ name, version }) => {
    if (name === 'application/openmetrics-text') return OPENMETRICS_VERSIONS.has(version);
    return name === 'application/*';
  });
  const text = best(wishes, ({ name, version }) => {
    if (name === 'text/plain') return TEXT_VERSIONS.has(version);
    return name === 'text/*' || name === '*/*';
  });
  return openmetrics > 0 && openmetrics >= text ? 'openmetrics' : 'prometheus';
}

/** For the value of an `Accept-Encoding` header. */
export function acceptsGzip(acceptEncoding: string | undefined): boolean {
  return best(parse(acceptEncoding ?? ''), ({ name }) => name === 'gzip' || name === 'x-gzip') > 0;
}

function best(wishes: readonly Wish[], matches: (wish: Wish) => boolean): number {
  return Math.max(0, ...wishes.filter(matches).map(({ quality }) => quality));
}

function parse(header: string): readonly Wish[] {
  return header.split(',').map(entry => {
    const [name = '', ...parameters] = entry.split(';').map(part => part.trim().toLowerCase());
    const values = new Map(
      parameters.map(parameter => {
        const [key = '', value = ''] = parameter.split(/\s*=\s*/, 2);
        return [key, value] as const;
      }),
    );
    const quality = Number(values.get('q') ?? '1');
    return {
      name,
      version: values.get('version')?.replaceAll('"', ''),
      // What is not a number is not a wish.
      quality: quality >= 0 && quality <= 1 ? quality : 0,
    };
  });
}
