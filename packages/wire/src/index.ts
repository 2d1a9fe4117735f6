export { WireError, type WireErrorCode } from './errors.ts';
export {
  type Ack,
  decodeAck,
  decodeHello,
  decodeRequest,
  encodeAck,
  encodeHello,
  encodeRequest,
  type Hello,
  MAX_ZDS_PACKET_BYTES,
  type WorkloadInfo,
  type WorkloadRequest,
} from './zds.ts';
