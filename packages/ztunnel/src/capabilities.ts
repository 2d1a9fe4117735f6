// Start-up check of shared mode: entering network namespaces and marking packets must be allowed, or no pod could ever
// be served. Better to fail at start with the missing right than at the first pod.
import { errnoName, NetNs, openTcp, setMark } from '@ambit/native';
import { errorText, ZtunnelError } from './errors.ts';

/** @throws config.invalid naming what is missing */
export function checkCapabilities(packetMark: number | undefined): void {
  try {
    using own = NetNs.own();
    own.run(() => undefined);
  } catch (cause) {
    throw new ZtunnelError('config.invalid', `cannot enter network namespaces: ${errorText(cause)}`, {
      cause,
      hint: 'shared mode needs CAP_SYS_ADMIN and CAP_NET_ADMIN',
    });
  }
  if (packetMark === undefined) return;
  using socket = openTcp('ipv4');
  const result = setMark(socket, packetMark);
  if (result < 0) {
    throw new ZtunnelError('config.invalid', `cannot mark packets (SO_MARK): ${errnoName(-result)}`, {
      hint: 'shared mode needs CAP_NET_ADMIN, or PACKET_MARK=0',
    });
  }
}
