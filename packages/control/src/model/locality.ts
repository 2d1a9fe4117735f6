// Where a workload is: from the labels of its node, or from the text of an entry.
import type { NodeObject } from '../objects/types.ts';
import { LABEL } from './well-known.ts';

export interface LocalityParts {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
}

/** Undefined when the node is unknown or says nothing. */
export function localityOfNode(node: NodeObject | undefined): LocalityParts | undefined {
  if (node === undefined) return undefined;
  const { labels } = node.metadata;
  return whole(labels[LABEL.region] ?? '', labels[LABEL.zone] ?? '', labels[LABEL.subzone] ?? '');
}

/** Reads `region/zone/subzone`; later parts may be missing. */
export function localityOfText(text: string): LocalityParts | undefined {
  const [region = '', zone = '', subzone = ''] = text.split('/', 3);
  return whole(region, zone, subzone);
}

export function sameLocality(a: LocalityParts | undefined, b: LocalityParts | undefined): boolean {
  return a?.region === b?.region && a?.zone === b?.zone && a?.subzone === b?.subzone;
}

function whole(region: string, zone: string, subzone: string): LocalityParts | undefined {
  return region === '' && zone === '' && subzone === '' ? undefined : { region, zone, subzone };
}
