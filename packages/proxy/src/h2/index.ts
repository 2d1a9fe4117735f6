// Public surface of the HTTP/2 codec: frames, HPACK, rules of HBONE headers. Pure code, bytes in and events out.

export { FLOOD_KIND, FLOOD_LIMITS, FloodGuard, type FloodKind, type FloodLimit } from './flood-guard.ts';
export {
  DEFAULT_FRAME_LIMITS,
  type FrameLimits,
  FrameReader,
  type FrameReaderState,
  type FrameSink,
} from './frame-reader.ts';
export {
  CLIENT_PREFACE,
  DEFAULT_HEADER_TABLE_SIZE,
  DEFAULT_WINDOW_SIZE,
  FRAME_FLAG,
  FRAME_HEADER_BYTES,
  FRAME_TYPE,
  H2_ERROR,
  MAX_MAX_FRAME_SIZE,
  MAX_WINDOW_SIZE,
  MIN_MAX_FRAME_SIZE,
  SETTING,
  type Setting,
  writeFrameHeader,
  writeGoaway,
  writePing,
  writeRstStream,
  writeSettings,
  writeSettingsAck,
  writeWindowUpdate,
} from './frames.ts';
export { connectionFault, type H2Fault, type H2Reason, streamFault } from './h2-fault.ts';
export { type ConnectRequest, writeConnectRequest, writeConnectResponse } from './header-blocks.ts';
export {
  type HeaderRuling,
  type RequestHead,
  RequestRules,
  type ResponseHead,
  ResponseRules,
} from './header-rules.ts';
export {
  type HeaderSink,
  HpackDecoder,
  type HpackDecoderOptions,
  type HpackFault,
  type HpackState,
} from './hpack-decoder.ts';
export {
  HpackEncoder,
  type HpackEncoderState,
  STATIC_INDEX,
  writeIndexed,
  writeLiteral,
  writeNamedLiteral,
} from './hpack-encoder.ts';
