// Asks the control plane's CA for certificates (istio.v1.auth.IstioCertificateService). One connection is kept and shared;
// another takes its place when it broke, when a call on it got no answer, or when the roots that it was made with changed.
// Calls that run on the old one end in peace. Whether an answer is any good is for the caller to say.
import { create, type JsonObject } from '@bufbuild/protobuf';
import { IstioCertificateRequestSchema, IstioCertificateService } from '../gen/citadel_pb.ts';
import { CallError } from './call-error.ts';
import type { GrpcTarget } from './grpc-target.ts';
import { type GrpcSession, openGrpcSession } from './transport.ts';

/** One question to the CA. */
export interface CertificateQuestion {
  readonly csrPem: string;
  readonly validitySeconds: number;
  /** SPIFFE id to be certified on another's behalf; undefined asks for the caller's own. */
  readonly impersonate?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** For one call; upstream has none, so a CA that hangs holds its clients up for ever. */
const CALL_TIMEOUT_MS = 10_000;
const MAX_ANSWER_BYTES = 1 << 20;

/**
 * One call on an open connection: leaf, intermediates, and last the roots, as PEM texts, unchecked.
 * @throws CallError; grpc.deadline after 10 s
 */
export async function requestCertificate(
  session: GrpcSession,
  question: CertificateQuestion,
  options: { readonly timeoutMs?: number } = {},
): Promise<readonly string[]> {
  const { csrPem, validitySeconds, impersonate, signal } = question;
  const metadata: JsonObject | undefined =
    impersonate === undefined ? undefined : { ImpersonatedIdentity: impersonate };
  const request = create(IstioCertificateRequestSchema, {
    csr: csrPem,
    validityDuration: BigInt(Math.round(validitySeconds)),
    ...(metadata === undefined ? {} : { metadata }),
  });
  const answer = await session.unary(IstioCertificateService.method.createCertificate, request, {
    timeoutMs: options.timeoutMs ?? CALL_TIMEOUT_MS,
    maxMessageBytes: MAX_ANSWER_BYTES,
    signal,
  });
  return answer.certChain;
}

/** A connection and who is on it. `roots` is undefined when none were asked for (no TLS). */
interface Channel {
  readonly session: GrpcSession;
  readonly roots: string | undefined;
  calls: number;
  isRetired: boolean;
}

export class CaClient {
  readonly #target: GrpcTarget;
  readonly #timeoutMs: number;
  readonly #closing = new AbortController();
  #channel: Channel | undefined;
  #opening: Promise<Channel> | undefined;

  constructor(target: GrpcTarget, options: { readonly timeoutMs?: number } = {}) {
    this.#target = target;
    this.#timeoutMs = options.timeoutMs ?? CALL_TIMEOUT_MS;
  }

  /** As `requestCertificate`, connecting first where needed. @throws CallError */
  async request(question: CertificateQuestion): Promise<readonly string[]> {
    const former = this.#channel;
    const channel = await this.#usable();
    try {
      return await this.#call(channel, question);
    } catch (error) {
      // A connection that was idle may have died unnoticed; a new one would have been used had we known.
      const isStale = channel === former && error instanceof CallError && error.code === 'grpc.lost';
      if (!isStale || question.signal?.aborted === true || this.#closing.signal.aborted) throw error;
      return await this.#call(await this.#usable(), question);
    }
  }

  /** Ends every call. */
  close(): void {
    this.#closing.abort();
    this.#channel?.session.close();
    this.#channel = undefined;
  }

  async #call(channel: Channel, question: CertificateQuestion): Promise<readonly string[]> {
    channel.calls++;
    try {
      return await requestCertificate(channel.session, question, { timeoutMs: this.#timeoutMs });
    } catch (error) {
      // A connection into nowhere looks like this: the next call shall have another.
      if (error instanceof CallError && error.code === 'grpc.deadline') this.#retire(channel);
      throw error;
    } finally {
      channel.calls--;
      this.#closeIfDone(channel);
    }
  }

  async #usable(): Promise<Channel> {
    const present = this.#channel;
    if (present?.session.isUsable === true && !present.isRetired) {
      if (!(await this.#haveRootsChanged(present))) return present;
      try {
        return await this.#open();
      } catch (error) {
        // The new roots may be half written; the old connection is as good as it was.
        if (present.session.isUsable) return present;
        throw error;
      }
    }
    return await this.#open();
  }

  async #haveRootsChanged({ roots }: Channel): Promise<boolean> {
    if (roots === undefined) return false;
    try {
      return (await this.#target.roots()) !== roots;
    } catch {
      // Unreadable now: not a reason to give up a connection that works.
      return false;
    }
  }

  /** Many may ask at once; one connection is opened. */
  async #open(): Promise<Channel> {
    this.#opening ??= this.#openOne().finally(() => {
      this.#opening = undefined;
    });
    return await this.#opening;
  }

  async #openOne(): Promise<Channel> {
    let roots: string | undefined;
    const readRoots = async (): Promise<string> => (roots = await this.#target.roots());
    const target = { ...this.#target, roots: readRoots };
    const session = await openGrpcSession(target, { signal: this.#closing.signal });
    const former = this.#channel;
    const channel: Channel = { session, roots, calls: 0, isRetired: false };
    this.#channel = channel;
    if (former !== undefined) this.#retire(former);
    return channel;
  }

  #retire(channel: Channel): void {
    channel.isRetired = true;
    this.#closeIfDone(channel);
  }

  #closeIfDone(channel: Channel): void {
    if (channel.isRetired && channel.calls === 0) channel.session.close();
  }
}
