export { certificateKey, revocationKey } from './certificate-key.ts';
export { errnoName, NativeError, type NativeErrorCode, SysError } from './errors.ts';
export { Errno } from './errno.ts';
export { EventFd } from './event-fd.ts';
export { closeRegistered, duplicateFd, duplicateNumber, Fd, ownedFdCount, registerFds } from './fd.ts';
export { filledSocket } from './filled-socket.ts';
export { IoVec } from './iovec.ts';
export { type IpFamily } from './ip-text.ts';
export { monotonicMs } from './monotonic.ts';
export { createNetNs, NetNs, type NetNsIdentity } from './net-ns.ts';
export { NetlinkProtocol, type NetlinkRequest, NetlinkSocket } from './netlink.ts';
export { Nftables, nftGeneration, type NftOptions, runNft } from './nftables.ts';
export { openPacketSocket } from './packet-socket.ts';
export { type PeerCredentials, peerCredentials } from './peer-credentials.ts';
export { releaseMemory } from './memory.ts';
export { type EventHandler, EventMask, Reactor, type Registration } from './reactor.ts';
export { addAddress, deleteAddress, type InterfaceAddress, listAddresses } from './rtnetlink-addresses.ts';
export {
  addBridge,
  addVeth,
  deleteLink,
  findLink,
  type Link,
  type LinkChange,
  listLinks,
  setLink,
  type VethOptions,
} from './rtnetlink-links.ts';
export {
  deleteRoute,
  listRoutes,
  LOCAL_TABLE,
  MAIN_TABLE,
  replaceRoute,
  type Route,
  type RouteSpec,
  type RouteType,
} from './rtnetlink-routes.ts';
export { addRule, deleteRule, listRules, type MarkMatch, type Rule, type RuleSpec } from './rtnetlink-rules.ts';
export { type RouteFamily } from './rtnetlink-text.ts';
export { Slab } from './slab.ts';
export { type FileLimit, openFdCount, openFileLimit, setOpenFileLimitToMax } from './resources.ts';
export { type Received, SeqPacket, SeqPacketListener } from './seqpacket.ts';
export { familyOf, type SocketAddress } from './socket-address.ts';
export { type ListenerProtocol, type ListeningSocket, listListeners } from './sock-diag.ts';
export { acceptConnection, closeWithReset, readv, recv, send, shutdownWrite, writev } from './socket-io.ts';
export {
  type KeepAlive,
  setKeepAlive,
  setMark,
  setNoDelay,
  setReceiveBuffer,
  setSendBuffer,
  setTransparent,
  setUserTimeout,
  socketError,
} from './socket-options.ts';
export {
  bindTo,
  type Listener,
  type ListenOptions,
  listenTcp,
  localAddress,
  openTcp,
  originalDestination,
  peerAddress,
  startConnect,
} from './socket-setup.ts';
export { readTcpHealth, type TcpHealth, type TcpInfo, type TcpState, tcpInfo } from './tcp-info.ts';
export { openUdp, recvFrom, sendTo, UdpAddresses, type UdpOptions } from './udp.ts';
export { UdpBatch } from './udp-batch.ts';
// TLS 1.3
export { type CertificateRequest, generateCertificateRequest } from './certificate-request.ts';
export { type ChainToVerify, type ChainVerdict, verifyCertificateChain } from './chain-verification.ts';
export { Handshake, type HandshakeStep, type TlsSession } from './handshake.ts';
export { importRecordLayer } from './own-records.ts';
export { type CertificateInfo, certificateInfo, spiffeUris } from './peer-identity.ts';
export {
  Alert,
  AlertLevel,
  alertName,
  alertOf,
  type CipherName,
  faultName,
  MAX_RECORD_BYTES,
  MAX_RECORD_CONTENT_BYTES,
  MAX_RECORDS_PER_KEY,
  MIN_OUTPUT_BYTES,
  type Opened,
  RECORD_HEADER_BYTES,
  RECORD_OVERHEAD_BYTES,
  RecordFault,
  type RecordLayer,
  type RecordOptions,
  type RecordState,
  type TlsRole,
  UPDATE_AFTER_RECORDS,
} from './records.ts';
export { DEFAULT_GROUPS, DEFAULT_SUITES, TlsContext, type TlsMaterial, type TlsOptions } from './tls-context.ts';
export { TlsError, type TlsErrorCode } from './tls-error.ts';
export type { TlsFailure, TlsFailureCode } from './tls-failure.ts';
