// Ports that are the proxy's own: inside a pod, and of the process.

/** Istio's fixed ports of the node proxy. */
export const PROXY_PORTS = { outbound: 15001, inboundPlaintext: 15006, inbound: 15008 } as const;
export const SOCKS5_PORT = 15080;
/** Of the process; fixed, as upstream. */
export const READINESS_PORT = 15021;
