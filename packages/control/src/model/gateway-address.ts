// The address of a waypoint or a network gateway, as resources carry it.

export interface GatewayAddressParts {
  readonly destination:
    | { readonly case: 'hostname'; readonly value: { readonly namespace: string; readonly hostname: string } }
    | { readonly case: 'address'; readonly value: { readonly network: string; readonly address: Uint8Array } };
  readonly hboneMtlsPort: number;
}

/** Equal texts are equal addresses. */
export function formatGatewayAddress({ destination, hboneMtlsPort }: GatewayAddressParts): string {
  const where =
    destination.case === 'hostname'
      ? `${destination.value.namespace}/${destination.value.hostname}`
      : `${destination.value.network}/${destination.value.address.join('.')}`;
  return `${destination.case} ${where} ${hboneMtlsPort}`;
}
