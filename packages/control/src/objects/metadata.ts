// What is read of an object's `metadata`. Annotations that belong to others are dropped: `kubectl apply` keeps a whole
// copy of the object in one, and nothing in a mesh reads them.
import { type Fields, isRawObject } from './fields.ts';
import type { Metadata } from './types.ts';

/** A DNS subdomain (RFC 1123), which is what the API server allows as a name of every kind that is read here. */
const NAME = /^[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?$/;

/** @param isNamespaced namespaced objects without a namespace are in `default`; others have none, whatever they say */
export function readMetadata(object: Fields, isNamespaced: boolean): Metadata {
  const fields = object.requiredChild('metadata');
  if (fields === undefined) return EMPTY_METADATA;
  return {
    name: readName(fields),
    namespace: isNamespaced ? readNamespace(fields) : '',
    uid: fields.text('uid'),
    labels: fields.labels('labels'),
    annotations: fields.labels('annotations', isOurs),
    generateName: fields.text('generateName'),
    creationTime: readTime(fields.raw('creationTimestamp')),
    isDeleting: fields.has('deletionTimestamp'),
    controller: readController(fields),
  };
}

/** Of an object that says nothing of itself. */
export const EMPTY_METADATA: Metadata = {
  name: '',
  namespace: '',
  uid: '',
  labels: {},
  annotations: {},
  generateName: '',
  creationTime: undefined,
  isDeleting: false,
  controller: undefined,
};

/** `istio.io/dry-run`, `ambient.istio.io/redirection`, `networking.istio.io/traffic-distribution`, our own. */
function isOurs(name: string): boolean {
  return name.includes('istio.io/') || name.includes('ambit');
}

function readName(fields: Fields): string {
  const name = fields.requiredText('name');
  if (name !== '' && !NAME.test(name)) {
    fields.problem(
      ['name'],
      `${JSON.stringify(name.slice(0, 80))} is no name`,
      'use lower-case letters, digits, - and .',
    );
  }
  return name;
}

function readNamespace(fields: Fields): string {
  const namespace = fields.text('namespace');
  if (namespace === '') return 'default';
  if (!NAME.test(namespace)) {
    const shown = JSON.stringify(namespace.slice(0, 80));
    fields.problem(['namespace'], `${shown} is no namespace`, 'use lower-case letters, digits and -');
  }
  return namespace;
}

/** JSON has RFC 3339 text; the official client's typed objects have dates. */
function readTime(value: unknown): number | undefined {
  const time = typeof value === 'string' ? Date.parse(value) : value instanceof Date ? value.getTime() : Number.NaN;
  return Number.isNaN(time) ? undefined : time;
}

/** Not validated beyond what is used: a stray owner reference does not make an object unreadable. */
function readController(fields: Fields): Metadata['controller'] {
  const owners = fields.raw('ownerReferences');
  if (!Array.isArray(owners)) return undefined;
  for (const owner of owners as readonly unknown[]) {
    if (isRawObject(owner) && owner['controller'] === true) {
      const { kind, name } = owner;
      return typeof kind === 'string' && typeof name === 'string' ? { kind, name } : undefined;
    }
  }
  return undefined;
}
