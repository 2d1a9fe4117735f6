// `ambit control render`: what a ztunnel subscribed to everything would hold, from files alone. The same reader and the
// same translation as a running control plane's, so what it shows is what would be sent.
import {
  addressToJson,
  authorizationToJson,
  decodeAddressMessage,
  decodeAuthorizationMessage,
  type Json,
} from '@ambit/wire/resources';
import type { Diagnostic } from '../diagnostic.ts';
import { MeshModel } from '../model/mesh-model.ts';
import type { XdsResource } from '../model/resource.ts';
import { refOf } from '../objects/types.ts';
import type { MeshSettings } from '../settings.ts';
import { readInput } from './input.ts';

export interface RenderedResource {
  /** xDS name. */
  readonly name: string;
  /** In proto JSON: `istio.workload.Address` or `istio.security.Authorization`. */
  readonly resource: Json;
}

export interface Rendered {
  /** By name, in code-unit order. */
  readonly addresses: readonly RenderedResource[];
  readonly authorizations: readonly RenderedResource[];
}

export interface RenderResult {
  readonly rendered: Rendered;
  /** Of the reader, with places: objects that could not be read are not in the rendering. */
  readonly diagnostics: readonly Diagnostic[];
}

/**
 * @param paths directories, files, or `-` for standard input
 * @throws ControlError config.no_such_path, config.unreadable_path
 */
export async function render(
  paths: readonly string[],
  settings: MeshSettings,
  stdin: AsyncIterable<Uint8Array> = process.stdin,
): Promise<RenderResult> {
  const { objects, diagnostics } = await readInput(paths, stdin);
  const model = new MeshModel(settings);
  model.apply(objects.map(({ object }) => ({ ref: refOf(object), object })));
  return {
    rendered: {
      addresses: sorted(model.addresses(), value => addressToJson(decodeAddressMessage(value))),
      authorizations: sorted(model.authorizations(), value => authorizationToJson(decodeAuthorizationMessage(value))),
    },
    diagnostics,
  };
}

function sorted(resources: Iterable<XdsResource>, toJson: (value: Uint8Array) => Json): readonly RenderedResource[] {
  return [...resources]
    .map(({ name, value }) => ({ name, resource: toJson(value) }))
    .sort((a, b) => (a.name < b.name ? -1 : Number(a.name > b.name)));
}
