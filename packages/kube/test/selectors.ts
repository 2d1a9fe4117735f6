// Field and label selectors of the test's API server: terms `a=b`, `a==b` and `a!=b`, joined by commas.
import { at } from '../src/json.ts';
import type { StoredObject } from './object-store.ts';

interface Term {
  readonly path: string;
  readonly isEqual: boolean;
  readonly value: string;
}

export interface Selectors {
  readonly fields: readonly Term[];
  readonly labels: readonly Term[];
}

export function selectorsOf(query: URLSearchParams): Selectors {
  return { fields: parse(query.get('fieldSelector')), labels: parse(query.get('labelSelector')) };
}

export function matches(object: StoredObject, { fields, labels }: Selectors): boolean {
  const holds = ({ isEqual, value }: Term, found: unknown): boolean =>
    ((typeof found === 'string' ? found : '') === value) === isEqual;
  return (
    fields.every(term => holds(term, at(object, ...term.path.split('.')))) &&
    labels.every(term => holds(term, object.metadata.labels?.[term.path]))
  );
}

function parse(text: string | null): readonly Term[] {
  return (text ?? '')
    .split(',')
    .filter(part => part !== '')
    .map(part => {
      const [, path = '', sign = '', value = ''] = /^([^=!]+)(!=|==?)(.*)$/.exec(part) ?? [];
      return { path, isEqual: sign !== '!=', value };
    });
}
