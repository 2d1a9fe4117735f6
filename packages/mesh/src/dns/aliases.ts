// The names a question may stand for: what Kubernetes' and a resolver's search lists would have made of a short name, in
// the order in which they are tried (upstream's; all begin with the label the question begins with).

export interface Alias {
  readonly name: string;
  /** What was asked without the search domain a resolver appended; undefined when nothing was taken off. */
  readonly stripped: string | undefined;
}

export interface AliasSettings {
  readonly clusterDomain: string;
  /** Namespace of who asks. */
  readonly namespace: string;
  /** Domains that a resolver may have appended, in order. */
  readonly searchDomains: readonly string[];
}

/** The search list the kubelet writes for a pod of that namespace. */
export function podSearchDomains(namespace: string, clusterDomain: string): readonly string[] {
  return [`${namespace}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain];
}

/** Each name once; the asked one first. `asked` is in lower case without a dot at the end. */
export function aliasesOf(asked: string, settings: AliasSettings): readonly Alias[] {
  const aliases: Alias[] = [];
  const add = (name: string, stripped: string | undefined): void => {
    if (!aliases.some(alias => alias.name === name)) aliases.push({ name, stripped });
  };
  add(asked, undefined);
  for (const name of expansionsOf(asked, settings)) add(name, undefined);
  for (const domain of settings.searchDomains) {
    const stripped = withoutDomain(asked, domain);
    if (stripped === undefined) continue;
    add(stripped, stripped);
    for (const name of expansionsOf(stripped, settings)) add(name, stripped);
  }
  return aliases;
}

/** What Kubernetes would call the service that is meant by a name of up to four labels. */
export function expansionsOf(name: string, settings: Omit<AliasSettings, 'searchDomains'>): readonly string[] {
  const { namespace, clusterDomain } = settings;
  const labels = name.split('.', 5);
  switch (labels.length) {
    case 1:
      return name === '' ? [] : [`${name}.${namespace}.svc.${clusterDomain}`];
    case 2:
      return [`${name}.svc.${clusterDomain}`, `${name}.${namespace}.svc.${clusterDomain}`];
    case 3: {
      const whole = `${name}.svc.${clusterDomain}`;
      return labels[2] === 'svc' ? [`${name}.${clusterDomain}`, whole] : [whole];
    }
    case 4:
      return labels[3] === 'svc' ? [`${name}.${clusterDomain}`] : [];
    default:
      return [];
  }
}

/** The name without the domain it ends with; undefined when it does not, or is nothing else. */
export function withoutDomain(name: string, domain: string): string | undefined {
  if (domain === '' || name.length <= domain.length + 1) return undefined;
  return name.endsWith(domain) && name.charCodeAt(name.length - domain.length - 1) === 0x2e
    ? name.slice(0, name.length - domain.length - 1)
    : undefined;
}
