// Ports inside a pod that are the proxy's own.

/** Istio's fixed ports of the node proxy. */
export const PROXY_PORTS = { outbound: 15001, inboundPlaintext: 15006, inbound: 15008 } as const;
export const SOCKS5_PORT = 15080;
