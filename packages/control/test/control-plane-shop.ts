// Test support: a small mesh as Kubernetes YAML. web lives on n1, cart on n2; cart has a service.

export const WEB = 'spiffe://cluster.local/ns/shop/sa/web';
export const CART = 'spiffe://cluster.local/ns/shop/sa/cart';
export const WEB_IP = '10.20.0.1';
export const CART_IP = '10.20.0.2';
/** Resource names in the wildcard answer. */
export const CART_SERVICE = 'shop/cart.shop.svc.cluster.local';
export const WEB_POD = 'Kubernetes//Pod/shop/web';
export const CART_POD = 'Kubernetes//Pod/shop/cart';

export function podYaml(name: string, node: string, ip: string): string {
  return `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: shop, uid: uid-${name}, labels: { app: ${name} } }
spec: { serviceAccountName: ${name}, nodeName: ${node}, containers: [{ name: app, image: app }] }
status:
  phase: Running
  podIP: ${ip}
  podIPs: [{ ip: ${ip} }]
  conditions: [{ type: Ready, status: "True" }]
`;
}

export function policyYaml(name: string, port: number): string {
  return `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ${name}, namespace: shop }
spec:
  action: DENY
  rules: [{ to: [{ operation: { ports: ["${port}"] } }] }]
`;
}

export const SHOP: Readonly<Record<string, string>> = {
  'base.yaml': `apiVersion: v1
kind: Namespace
metadata: { name: istio-system }
---
apiVersion: v1
kind: Namespace
metadata: { name: shop, labels: { istio.io/dataplane-mode: ambient } }
---
apiVersion: v1
kind: Node
metadata: { name: n1 }
---
apiVersion: v1
kind: Node
metadata: { name: n2 }
---
apiVersion: v1
kind: Service
metadata: { name: cart, namespace: shop }
spec: { clusterIP: 10.30.0.1, clusterIPs: [10.30.0.1], selector: { app: cart }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
`,
  'web.yaml': podYaml('web', 'n1', WEB_IP),
  'cart.yaml': podYaml('cart', 'n2', CART_IP),
  'policy.yaml': policyYaml('no-9999', 9999),
};
