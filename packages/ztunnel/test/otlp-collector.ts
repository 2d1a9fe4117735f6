// A collector for tests: takes OTLP over HTTP and over gRPC, with protobufjs and grpc-js as independent readers. It can be told
// to hang, to refuse, or to answer late. Field numbers are those of the OTLP schema (opentelemetry-proto 1.x), as far as we use it.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { gunzipSync } from 'node:zlib';
import * as grpc from '@grpc/grpc-js';
import protobuf from 'protobufjs';

const { root } = protobuf.parse(`
syntax = "proto3";
message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; } }
message KeyValue { string key = 1; AnyValue value = 2; }
message Resource { repeated KeyValue attributes = 1; }
message Scope { string name = 1; string version = 2; }
message Logs { repeated ResourceLogs resource = 1; }
message ResourceLogs { Resource resource = 1; repeated ScopeLogs scopes = 2; }
message ScopeLogs { Scope scope = 1; repeated LogRecord items = 2; }
message LogRecord {
  fixed64 time_unix_nano = 1; int32 severity_number = 2; string severity_text = 3; AnyValue body = 5;
  repeated KeyValue attributes = 6; bytes trace_id = 9; bytes span_id = 10;
}
message Traces { repeated ResourceSpans resource = 1; }
message ResourceSpans { Resource resource = 1; repeated ScopeSpans scopes = 2; }
message ScopeSpans { Scope scope = 1; repeated Span items = 2; }
message Span {
  bytes trace_id = 1; bytes span_id = 2; bytes parent_span_id = 4; string name = 5; int32 kind = 6;
  fixed64 start_time_unix_nano = 7; fixed64 end_time_unix_nano = 8; repeated KeyValue attributes = 9; Status status = 15;
}
message Status { string message = 2; int32 code = 3; }
message Metrics { repeated ResourceMetrics resource = 1; }
message ResourceMetrics { Resource resource = 1; repeated ScopeMetrics scopes = 2; }
message ScopeMetrics { Scope scope = 1; repeated Metric items = 2; }
message Metric {
  string name = 1; string description = 2; string unit = 3;
  oneof data { Gauge gauge = 5; Sum sum = 7; Histogram histogram = 9; }
}
message Gauge { repeated NumberPoint data_points = 1; }
message Sum { repeated NumberPoint data_points = 1; int32 aggregation_temporality = 2; bool is_monotonic = 3; }
message Histogram { repeated HistogramPoint data_points = 1; int32 aggregation_temporality = 2; }
message NumberPoint {
  fixed64 start_time_unix_nano = 2; fixed64 time_unix_nano = 3;
  oneof value { double as_double = 4; sfixed64 as_int = 6; } repeated KeyValue attributes = 7;
}
message HistogramPoint {
  fixed64 start_time_unix_nano = 2; fixed64 time_unix_nano = 3; fixed64 count = 4; double sum = 5;
  repeated fixed64 bucket_counts = 6; repeated double explicit_bounds = 7; repeated KeyValue attributes = 9;
}
`);

export type Signal = 'logs' | 'traces' | 'metrics';

const TYPES = { logs: 'Logs', traces: 'Traces', metrics: 'Metrics' } as const;
const SERVICES: Readonly<Record<Signal, string>> = {
  logs: '/opentelemetry.proto.collector.logs.v1.LogsService/Export',
  traces: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
  metrics: '/opentelemetry.proto.collector.metrics.v1.MetricsService/Export',
};

const PATIENCE_MS = 60_000;

interface KeyValue {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

/** A log record, span or metric as it came, with its scope's name; lists of attributes are objects. */
export type Item = Readonly<Record<string, unknown>> & { readonly scope: string };

/** `answer` takes the request; `refuse` says 400 or INVALID_ARGUMENT; `hang` never answers. */
export type Manner = 'answer' | 'refuse' | 'hang';

export class Collector {
  manner: Manner = 'answer';
  readonly items: Record<Signal, Item[]> = { logs: [], traces: [], metrics: [] };
  readonly resources: Record<string, unknown>[] = [];
  readonly headers: Readonly<Record<string, unknown>>[] = [];
  requests = 0;
  readonly #http: Server;
  readonly #grpc = new grpc.Server();
  readonly #waiting = new Set<() => void>();
  httpUrl = '';
  grpcUrl = '';

  private constructor() {
    this.#http = createServer((request, response) => void this.#onHttp(request, response));
    for (const signal of ['logs', 'traces', 'metrics'] as const) {
      const method = {
        path: SERVICES[signal],
        requestStream: false,
        responseStream: false,
        requestSerialize: (value: Buffer) => value,
        requestDeserialize: (value: Buffer) => value,
        responseSerialize: (value: Buffer) => value,
        responseDeserialize: (value: Buffer) => value,
      };
      const handle: grpc.handleUnaryCall<Buffer, Buffer> = (call, done) => {
        const status = this.#take(signal, call.request, call.metadata.getMap());
        if (status === 'answer') done(null, Buffer.alloc(0));
        else if (status === 'refuse') done({ code: grpc.status.INVALID_ARGUMENT, details: 'not wanted' });
      };
      this.#grpc.addService({ Export: method }, { Export: handle });
    }
  }

  /** @param host where it listens, an IPv4 address */
  static async start(host = '127.0.0.1'): Promise<Collector> {
    const collector = new Collector();
    const listening = Promise.withResolvers<void>();
    collector.#http.listen(0, host, listening.resolve);
    await listening.promise;
    const address = collector.#http.address();
    collector.httpUrl = `http://${host}:${typeof address === 'object' && address !== null ? address.port : 0}`;
    const bound = Promise.withResolvers<number>();
    collector.#grpc.bindAsync(`${host}:0`, grpc.ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) bound.resolve(port);
      else bound.reject(error);
    });
    collector.grpcUrl = `http://${host}:${await bound.promise}`;
    return collector;
  }

  /** Resolves when `isTrue`, looked at after each request that arrives. @throws when it is not within a minute */
  async until(isTrue: () => boolean): Promise<void> {
    const { promise: expired, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => reject(new Error(`${this.requests} requests came: ${this.#summary()}`)),
      PATIENCE_MS,
    );
    try {
      while (!isTrue()) await Promise.race([expired, new Promise<void>(resolve => this.#waiting.add(resolve))]);
    } finally {
      clearTimeout(timer);
    }
  }

  #summary(): string {
    const { logs, traces, metrics } = this.items;
    return `${logs.length} log records, ${traces.length} spans, ${metrics.length} metrics`;
  }

  close(): void {
    this.#http.close();
    this.#http.closeAllConnections();
    this.#grpc.forceShutdown();
  }

  async #onHttp(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const bytes = request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body;
    const signal = (request.url ?? '').replace('/v1/', '');
    if (signal !== 'logs' && signal !== 'traces' && signal !== 'metrics') {
      response.writeHead(404).end();
      return;
    }
    const manner = this.#take(signal, bytes, request.headers);
    if (manner === 'hang') return;
    response.writeHead(manner === 'answer' ? 200 : 400, { 'content-type': 'application/x-protobuf' }).end();
  }

  #take(signal: Signal, bytes: Uint8Array, headers: Readonly<Record<string, unknown>>): Manner {
    this.requests++;
    this.headers.push(headers);
    if (this.manner === 'answer') this.#read(signal, bytes);
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
    return this.manner;
  }

  #read(signal: Signal, bytes: Uint8Array): void {
    const type = root.lookupType(TYPES[signal]);
    const plain = type.toObject(type.decode(bytes), { longs: String, bytes: String, arrays: true }) as {
      readonly resource: readonly {
        readonly resource: { readonly attributes: readonly KeyValue[] };
        readonly scopes: readonly { readonly scope: { readonly name: string }; readonly items: readonly object[] }[];
      }[];
    };
    for (const { resource, scopes } of plain.resource) {
      this.resources.push(attributes(resource.attributes));
      for (const { scope, items } of scopes) {
        for (const item of items) this.items[signal].push({ ...(withAttributes(item) as object), scope: scope.name });
      }
    }
  }
}

function withAttributes(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withAttributes);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => [
      key,
      key === 'attributes' ? attributes(each as KeyValue[]) : withAttributes(each),
    ]),
  );
}

function attributes(pairs: readonly KeyValue[]): Record<string, unknown> {
  return Object.fromEntries(pairs.map(({ key, value }) => [key, Object.values(value)[0]]));
}
