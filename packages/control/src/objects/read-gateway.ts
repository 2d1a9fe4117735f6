// Gateway API kinds: Gateway, GatewayClass, HTTPRoute, GRPCRoute; and references to targets, which Istio's policies share.
import type { Fields } from './fields.ts';
import type {
  GatewayClassObject,
  GatewayListener,
  GatewayObject,
  LabelExpression,
  RouteObject,
  TargetRef,
} from './types.ts';

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

const OPERATORS = ['In', 'NotIn', 'Exists', 'DoesNotExist'] as const;

/** `Selector` without a selector, or with one that cannot be read, lets nobody in: never wider than it is written. */
function readAllowedRoutes(listener: Fields): GatewayListener['allowedRoutes'] {
  const namespaces = listener.child('allowedRoutes')?.child('namespaces');
  const from = namespaces?.choice('from', ['All', 'Selector', 'Same', 'None'], 'Same') ?? 'Same';
  const selector = from === 'Selector' ? namespaces?.child('selector') : undefined;
  if (selector === undefined) return { from, selector: undefined };
  const labels = selector.labels('matchLabels');
  const expressions: LabelExpression[] = [];
  for (const expression of selector.children('matchExpressions')) {
    const operator = OPERATORS.find(known => known === expression.raw('operator'));
    const { length } = expressions;
    if (operator !== undefined) {
      expressions.push({ key: expression.requiredText('key'), operator, values: expression.texts('values') });
    } else {
      const message = 'the operator is none of In, NotIn, Exists, DoesNotExist, so no namespace is let in';
      selector.warn('config.unsupported', ['matchExpressions', length, 'operator'], message, 'use one of these');
      return { from, selector: undefined };
    }
  }
  return expressions.length === 0 ? { from, selector: labels } : { from, selector: labels, expressions };
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
