// A resource of the API server, and how it is named: in paths, in `apiVersion`, and for people.

export interface ResourceType<K extends string = string> {
  readonly kind: K;
  /** Empty: the core group. */
  readonly group: string;
  /** Readable versions, the preferred one first. */
  readonly versions: readonly [string, ...string[]];
  /** As it stands in paths. */
  readonly plural: string;
  readonly isNamespaced: boolean;
  /** Leaves out what can never matter, so that it need not be sent. */
  readonly fieldSelector?: string;
  /** Ask for `metadata` alone; a server that does not know how sends whole objects. Default false. */
  readonly isMetadataOnly?: boolean;
}

/** `apiVersion` of objects of a group in a version. */
export function apiVersionOf(group: string, version: string): string {
  return group === '' ? version : `${group}/${version}`;
}

/** Path of the whole collection, or of one namespace's part of it. */
export function collectionPath(type: ResourceType, version: string, namespace: string | undefined): string {
  const root = type.group === '' ? `/api/${version}` : `/apis/${type.group}/${version}`;
  const inside = namespace === undefined || !type.isNamespaced ? '' : `/namespaces/${encodeURIComponent(namespace)}`;
  return `${root}${inside}/${type.plural}`;
}

/** `pods`, or `gateways.gateway.networking.k8s.io`, as in RBAC messages and CRD names. */
export function qualifiedName({ group, plural }: ResourceType): string {
  return group === '' ? plural : `${plural}.${group}`;
}
