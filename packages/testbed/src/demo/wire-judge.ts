// What an observer between two nodes could read: takes Ethernet frames, counts those with payload, and judges each. A
// frame is readable when it is not part of a stream of TLS records to or from the tunnel port, or when it carries one of
// the marker texts that the shop's programs really send. ICMP is looked at for markers only. Pure: no sockets here.
import { type Judgement, TlsStream } from './tls-stream.ts';

/** Of a connection's life, as far as it is needed to be sure. */
export interface WireCounts {
  /** Frames with payload between the watched addresses. */
  readonly packets: number;
  readonly bytes: number;
  /** Of these: what an observer could read. */
  readonly readable: number;
  /** Of these: with a marker text in them. */
  readonly markers: number;
  /** Of these: part of a stream whose record boundaries are not known, since the capture missed bytes. */
  readonly unjudged: number;
  /** TCP connections seen. */
  readonly flows: number;
  /** The first readable frame, for people. */
  readonly example: string | undefined;
}

export interface WireJudgeOptions {
  readonly tunnelPort: number;
  readonly markers: readonly string[];
  /** Whether a frame between these IPv4 or IPv6 addresses counts. */
  readonly isWatched: (source: string, destination: string) => boolean;
}

interface TcpSegment {
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly isSyn: boolean;
  readonly payload: Buffer;
}

const MAX_FLOWS = 20_000;
const ETHERNET_BYTES = 14;
const TYPE_IP4 = 0x0800;
const TYPE_IP6 = 0x86dd;
const TCP = 6;
const ICMP = 1;
const ICMP6 = 58;
const SYN = 0x02;
const EXAMPLE_BYTES = 48;

export class WireJudge {
  readonly #options: WireJudgeOptions;
  readonly #markers: readonly Buffer[];
  readonly #flows = new Map<string, TlsStream>();
  #packets = 0;
  #bytes = 0;
  #readable = 0;
  #marked = 0;
  #unjudged = 0;
  #flowCount = 0;
  #example: string | undefined;

  constructor(options: WireJudgeOptions) {
    this.#options = options;
    this.#markers = options.markers.map(text => Buffer.from(text, 'latin1'));
  }

  counts(): WireCounts {
    return {
      packets: this.#packets,
      bytes: this.#bytes,
      readable: this.#readable,
      markers: this.#marked,
      unjudged: this.#unjudged,
      // Both directions of a connection are followed.
      flows: Math.ceil(this.#flowCount / 2),
      example: this.#example,
    };
  }

  /** Takes one frame. What is no IP, or between other addresses, is ignored. */
  frame(frame: Buffer): void {
    const packet = readIp(frame);
    if (packet === undefined || !this.#options.isWatched(packet.source, packet.destination)) return;
    if (packet.protocol === ICMP || packet.protocol === ICMP6) {
      if (this.#hasMarker(packet.body)) this.#count(packet.body, 'plaintext', `ICMP from ${packet.source}`);
      return;
    }
    if (packet.protocol !== TCP) {
      this.#count(packet.body, 'plaintext', `protocol ${packet.protocol} from ${packet.source}`);
      return;
    }
    const segment = readTcp(packet);
    if (segment === undefined) return;
    if (segment.isSyn) this.#flow(segment).begin(segment.sequence);
    if (segment.payload.length > 0) this.#judge(segment);
  }

  #judge(segment: TcpSegment): void {
    const { sourcePort, destinationPort, payload } = segment;
    const { tunnelPort } = this.#options;
    const isTunnel = sourcePort === tunnelPort || destinationPort === tunnelPort;
    const judgement = isTunnel ? this.#flow(segment).segment(segment.sequence, payload) : 'plaintext';
    this.#count(payload, judgement, `${segment.source}:${sourcePort} to ${segment.destination}:${destinationPort}`);
  }

  #count(payload: Buffer, judgement: Judgement, where: string): void {
    const isMarked = this.#hasMarker(payload);
    this.#packets++;
    this.#bytes += payload.length;
    if (isMarked) this.#marked++;
    if (judgement === 'unknown') this.#unjudged++;
    if (judgement !== 'plaintext' && !isMarked) return;
    this.#readable++;
    this.#example ??= `${where}: ${printable(payload)}`;
  }

  #hasMarker(payload: Buffer): boolean {
    return this.#markers.some(marker => payload.includes(marker));
  }

  #flow({ source, destination, sourcePort, destinationPort }: TcpSegment): TlsStream {
    const key = `${source} ${sourcePort} ${destination} ${destinationPort}`;
    const known = this.#flows.get(key);
    if (known !== undefined) return known;
    // The oldest is forgotten; should it speak again, it is judged from its next record boundary.
    if (this.#flows.size >= MAX_FLOWS) this.#flows.delete(this.#flows.keys().next().value ?? '');
    const flow = new TlsStream();
    this.#flows.set(key, flow);
    this.#flowCount++;
    return flow;
  }
}

interface IpPacket {
  readonly protocol: number;
  readonly source: string;
  readonly destination: string;
  readonly body: Buffer;
}

function readIp(frame: Buffer): IpPacket | undefined {
  if (frame.length < ETHERNET_BYTES + 20) return undefined;
  const type = frame.readUInt16BE(12);
  const ip = frame.subarray(ETHERNET_BYTES);
  if (type === TYPE_IP4) {
    const header = ((ip[0] ?? 0) & 0x0f) * 4;
    // The total length is 0 for segments that the kernel has not cut up yet.
    const length = ip.readUInt16BE(2) || ip.length;
    const source = ip.subarray(12, 16).join('.');
    const destination = ip.subarray(16, 20).join('.');
    return { protocol: ip[9] ?? 0, source, destination, body: ip.subarray(header, length) };
  }
  if (type !== TYPE_IP6 || ip.length < 40) return undefined;
  const length = ip.readUInt16BE(4);
  const body = ip.subarray(40, length === 0 ? ip.length : 40 + length);
  // Extension headers do not occur on these links; with one it would count as another protocol, thus as readable.
  return { protocol: ip[6] ?? 0, source: ip6Text(ip, 8), destination: ip6Text(ip, 24), body };
}

/** All eight groups, hexadecimal without leading zeros: for comparison, not for people. */
function ip6Text(bytes: Buffer, at: number): string {
  return Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(at + 2 * i).toString(16)).join(':');
}

function readTcp({ source, destination, body }: IpPacket): TcpSegment | undefined {
  if (body.length < 20) return undefined;
  const header = ((body[12] ?? 0) >> 4) * 4;
  return {
    source,
    destination,
    sourcePort: body.readUInt16BE(0),
    destinationPort: body.readUInt16BE(2),
    sequence: body.readUInt32BE(4),
    isSyn: ((body[13] ?? 0) & SYN) !== 0,
    payload: body.subarray(header),
  };
}

function printable(payload: Buffer): string {
  return payload.toString('latin1', 0, EXAMPLE_BYTES).replaceAll(/[^ -~]/g, '.');
}
