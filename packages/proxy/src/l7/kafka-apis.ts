// Facts of Apache Kafka's protocol (its message definitions, of version 4.0): what an API is called and where in its answer the
// error stands. An API from after that has no name here.

// Names in the order of their numbers, each with where an error code stands. `e`: the answer begins with it. `t` and a
// version: from that version on the throttle time stands before it. `f` and a version: from that version on answers have
// tagged fields in their head. `from` and `to`: only those versions have it in that place. No rule: it has no such error.
const APIS: readonly string[] = `
  Produce|Fetch t0 f12 from7|ListOffsets|Metadata|LeaderAndIsr e f4|StopReplica e f2|UpdateMetadata e f6
  ControlledShutdown e f3|OffsetCommit|OffsetFetch|FindCoordinator t1 f3 to3|JoinGroup t2 f6|Heartbeat t1 f4
  LeaveGroup t1 f4|SyncGroup t1 f4|DescribeGroups|ListGroups t1 f3|SaslHandshake e|ApiVersions e|CreateTopics
  DeleteTopics|DeleteRecords|InitProducerId t0 f2|OffsetForLeaderEpoch|AddPartitionsToTxn t0 f3 from4
  AddOffsetsToTxn t0 f3|EndTxn t0 f3|WriteTxnMarkers|TxnOffsetCommit|DescribeAcls t0 f2|CreateAcls|DeleteAcls
  DescribeConfigs|AlterConfigs|AlterReplicaLogDirs|DescribeLogDirs t0 f2 from3|SaslAuthenticate e f2|CreatePartitions
  CreateDelegationToken e f2|RenewDelegationToken e f2|ExpireDelegationToken e f2|DescribeDelegationToken e f2
  DeleteGroups|ElectLeaders t0 f2 from1|IncrementalAlterConfigs|AlterPartitionReassignments t0 f0
  ListPartitionReassignments t0 f0|OffsetDelete e|DescribeClientQuotas t0 f1|AlterClientQuotas
  DescribeUserScramCredentials t0 f0|AlterUserScramCredentials|Vote e f0|BeginQuorumEpoch e f1|EndQuorumEpoch e f1
  DescribeQuorum e f0|AlterPartition t0 f0|UpdateFeatures t0 f0|Envelope|FetchSnapshot t0 f0|DescribeCluster t0 f0
  DescribeProducers|BrokerRegistration t0 f0|BrokerHeartbeat t0 f0|UnregisterBroker t0 f0|DescribeTransactions
  ListTransactions t0 f0|AllocateProducerIds t0 f0|ConsumerGroupHeartbeat t0 f0|ConsumerGroupDescribe
  ControllerRegistration t0 f0|GetTelemetrySubscriptions t0 f0|PushTelemetry t0 f0|AssignReplicasToDirs t0 f0
  ListClientMetricsResources t0 f0|DescribeTopicPartitions|ShareGroupHeartbeat t0 f0|ShareGroupDescribe
  ShareFetch t0 f0|ShareAcknowledge t0 f0|AddRaftVoter t0 f0|RemoveRaftVoter t0 f0|UpdateRaftVoter t0 f0
  InitializeShareGroupState|ReadShareGroupState|WriteShareGroupState|DeleteShareGroupState|ReadShareGroupStateSummary
  `
  .trim()
  .split(/\s*[|\n]\s*/);

const NEVER = 0xffff;

interface Api {
  readonly name: string;
  readonly hasError: boolean;
  readonly throttledFrom: number;
  readonly taggedFrom: number;
  readonly from: number;
  readonly to: number;
}

const TABLE: readonly Api[] = APIS.map(line => {
  const [name = '', ...rules] = line.split(' ');
  const version = (letters: string): number | undefined => {
    const rule = rules.find(text => text.startsWith(letters) && /^\d+$/.test(text.slice(letters.length)));
    return rule === undefined ? undefined : Number(rule.slice(letters.length));
  };
  return {
    name,
    hasError: rules.length > 0,
    throttledFrom: version('t') ?? NEVER,
    taggedFrom: version('f') ?? NEVER,
    from: version('from') ?? 0,
    to: version('to') ?? NEVER,
  };
});

export const PRODUCE = 0;
export const SASL_HANDSHAKE = 17;

/** An API's name; OTHER for one that is not known. */
export function apiName(key: number): string {
  return TABLE[key]?.name ?? 'OTHER';
}

export function isKnownApi(key: number): boolean {
  return key < TABLE.length;
}

/** How many bytes behind the correlation id of an answer its error code begins; 255: it has none in a fixed place. */
export function errorOffset(key: number, version: number): number {
  const api = TABLE[key];
  if (api === undefined || !api.hasError || version < api.from || version > api.to) return 255;
  // Tagged fields of a head have never been used: a zero. The answer to ApiVersions has none, so that old clients read it.
  return (version >= api.taggedFrom ? 1 : 0) + (version >= api.throttledFrom ? 4 : 0);
}

// Versions of Produce from which the head ends with tagged fields, and from which a transaction is named.
const PRODUCE_TAGGED_FROM = 9;
const PRODUCE_TRANSACTIONAL_FROM = 3;

/**
 * The acknowledgements that a Produce request asks for, by its bytes behind the correlation id; undefined: they lie behind
 * `end`, or behind what is not read here.
 */
export function produceAcks(bytes: Uint8Array, start: number, end: number, version: number): number | undefined {
  const isTagged = version >= PRODUCE_TAGGED_FROM;
  // The client's name keeps its two bytes of length in all versions.
  let at = afterName(bytes, start, false);
  if (isTagged) {
    // Tagged fields have never been used here.
    if (at >= end || bytes[at] !== 0) return undefined;
    at++;
  }
  if (version >= PRODUCE_TRANSACTIONAL_FROM) at = afterName(bytes, at, isTagged);
  return at + 2 <= end ? signed16(bytes, at) : undefined;
}

// A name that may be absent: length -1, or 0 in the compact form, which counts one more than there is.
function afterName(bytes: Uint8Array, at: number, isCompact: boolean): number {
  if (!isCompact) return at + 2 + Math.max(0, signed16(bytes, at));
  const low = bytes[at] ?? 0;
  if (low < 0x80) return at + 1 + Math.max(0, low - 1);
  return at + 2 + (((bytes[at + 1] ?? 0) << 7) | (low & 0x7f)) - 1;
}

/** A big-endian number with a sign. */
export function signed16(bytes: Uint8Array, at: number): number {
  return (((bytes[at] ?? 0) << 24) >> 16) | (bytes[at + 1] ?? 0);
}

export function signed32(bytes: Uint8Array, at: number): number {
  return (signed16(bytes, at) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0);
}
