// Gateway API kinds: Gateway, GatewayClass, HTTPRoute, GRPCRoute; and references to targets, which Istio's policies share.
import type { Fields } from './fields.ts';
import type { GatewayClassObject, GatewayListener, GatewayObject, Labels, RouteObject, TargetRef } from './types.ts';

type Body<T> = Omit<T, 'kind' | 'metadata'>;

export function readGateway(object: Fields): Body<GatewayObject> {
  const spec = object.requiredChild('spec');
  const addresses = object.child('status')?.children('addresses') ?? [];
  return {
    spec: {
      gatewayClassName: spec?.requiredText('gatewayClassName') ?? '',
      listeners: (spec?.children('listeners') ?? []).map(readListener),
    },
    status: {
      addresses: addresses.map(address => ({
        type: address.text('type', 'IPAddress'),
        value: address.requiredText('value'),
      })),
    },
  };
}

function readListener(listener: Fields): GatewayListener {
  return {
    name: listener.requiredText('name'),
    port: listener.requiredPort('port'),
    protocol: listener.requiredText('protocol'),
    tlsMode: listener.child('tls')?.text('mode') ?? '',
    allowedRoutes: readAllowedRoutes(listener),
  };
}

/** An expression that labels cannot say makes the listener narrower (`Same`), never wider. */
function readAllowedRoutes(listener: Fields): GatewayListener['allowedRoutes'] {
  const namespaces = listener.child('allowedRoutes')?.child('namespaces');
  const from = namespaces?.choice('from', ['All', 'Selector', 'Same', 'None'], 'Same') ?? 'Same';
  const selector = from === 'Selector' ? namespaces?.child('selector') : undefined;
  if (selector === undefined) return { from: from === 'Selector' ? 'Same' : from, selector: undefined };
  const labels: Record<string, string> = { ...selector.labels('matchLabels') };
  for (const [index, expression] of selector.children('matchExpressions').entries()) {
    const key = expression.requiredText('key');
    const [value, ...others] = expression.texts('values');
    const isOneValue = expression.raw('operator') === 'In' && value !== undefined && others.length === 0;
    if (isOneValue && (labels[key] ?? value) === value) labels[key] = value;
    else {
      const what = 'only expressions of the form {operator: In, values: [one]} are supported here';
      selector.warn('config.unsupported', ['matchExpressions', index], what, 'use matchLabels; until then: from Same');
      return { from: 'Same', selector: undefined };
    }
  }
  const all: Labels = labels;
  return { from, selector: all };
}

export function readGatewayClass(object: Fields): Body<GatewayClassObject> {
  return { spec: { controllerName: object.requiredChild('spec')?.requiredText('controllerName') ?? '' } };
}

export function readRoute(object: Fields): Body<RouteObject> {
  const parents = object.child('spec')?.children('parentRefs') ?? [];
  return {
    spec: {
      parentRefs: parents.map(parent => ({
        group: parent.text('group', 'gateway.networking.k8s.io'),
        kind: parent.text('kind', 'Gateway'),
        name: parent.requiredText('name'),
        namespace: parent.text('namespace'),
      })),
    },
  };
}

/** `targetRefs`, or the older `targetRef`. */
export function readTargetRefs(spec: Fields): readonly TargetRef[] {
  const one = spec.child('targetRef');
  const refs = spec.children('targetRefs');
  return (one === undefined ? refs : [one, ...refs]).map(ref => {
    ref.only(['group', 'kind', 'name', 'namespace']);
    return {
      group: ref.text('group'),
      kind: ref.requiredText('kind'),
      name: ref.requiredText('name'),
      namespace: ref.text('namespace'),
    };
  });
}
