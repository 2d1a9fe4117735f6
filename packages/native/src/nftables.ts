// nftables programs in this process, by libnftables (libnftables(3), libnftables-json(5)), which is loaded at the first
// use. A program is one transaction in the network namespace the thread is in; nothing stays open between calls. Not for
// workers: contexts share tables of the library, so one thread at a time.
import { NativeError } from './errors.ts';
import { bind, bindFrom, pointerTo } from './library.ts';
import { NetlinkProtocol, type NetlinkSocket, withSocket } from './netlink.ts';
import { readAttributes } from './netlink-message.ts';

type Pointer = number;

const LIBRARY = 'libnftables.so.1';
const NFT_CTX_DEFAULT = 0;
const NFT_CTX_OUTPUT_STATELESS = 1 << 2;
const NFT_CTX_OUTPUT_JSON = 1 << 4;

/** A program or a listing; 250 pods' addresses in a set are some 30 KB. */
const MAX_PROGRAM_BYTES = 8 * 1024 * 1024;
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;
/** Of nft's complaints, as much as an operator reads. */
const MAX_ERROR_TEXT = 2000;

const c_strnlen = bind<(text: Pointer, max: number) => number>('size_t strnlen(uintptr_t, size_t)');
const c_memcpy = bind<(to: Pointer, from: Pointer, length: number) => Pointer>(
  'uintptr_t memcpy(uintptr_t, uintptr_t, size_t)',
);

function load() {
  const from = bindFrom(LIBRARY);
  return {
    contextNew: from<(flags: number) => Pointer>('uintptr_t nft_ctx_new(uint32_t)'),
    contextFree: from<(context: Pointer) => void>('void nft_ctx_free(uintptr_t)'),
    setFlags: from<(context: Pointer, flags: number) => void>('void nft_ctx_output_set_flags(uintptr_t, unsigned int)'),
    bufferOutput: from<(context: Pointer) => number>('int nft_ctx_buffer_output(uintptr_t)'),
    bufferError: from<(context: Pointer) => number>('int nft_ctx_buffer_error(uintptr_t)'),
    output: from<(context: Pointer) => Pointer>('uintptr_t nft_ctx_get_output_buffer(uintptr_t)'),
    error: from<(context: Pointer) => Pointer>('uintptr_t nft_ctx_get_error_buffer(uintptr_t)'),
    run: from<(context: Pointer, text: string) => number>('int nft_run_cmd_from_buffer(uintptr_t, const char *)'),
  } as const;
}

type Library = ReturnType<typeof load>;

/** What became of the one attempt to load the library. */
let attempt: Library | NativeError | undefined;

function library(): Library | NativeError {
  try {
    attempt ??= load();
  } catch (cause) {
    attempt = new NativeError(
      'native.unavailable',
      `${LIBRARY} cannot be loaded, install the package libnftables1 (Debian, Ubuntu) or nftables: ${String(cause)}`,
    );
  }
  return attempt;
}

export const Nftables = {
  /** Whether libnftables is installed; says nothing about the kernel or about rights. */
  available(): boolean {
    return !(library() instanceof NativeError);
  },
} as const;

export interface NftOptions {
  /** Leaves counters' values and timeouts' rests out of what is listed, so that equal rules read equal. Default: false. */
  readonly stateless?: boolean;
}

/**
 * Runs one program, whole or not at all, in the current network namespace. @param program an object of libnftables-json(5)
 * @returns what its `list` commands say in the same language, undefined when it has none
 * @throws native.nftables in nft's words, native.unavailable, native.bounds (program over 8 MiB, listing over 64 MiB),
 *   SysError when there are no descriptors for it (EMFILE, ENFILE)
 */
export function runNft(program: object, options: NftOptions = {}): unknown {
  const text = JSON.stringify(program);
  const size = Buffer.byteLength(text);
  if (size > MAX_PROGRAM_BYTES) throw new NativeError('native.bounds', `an nft program of ${size} bytes`);
  const lib = library();
  if (lib instanceof NativeError) throw lib;
  provideSockets();
  const context = lib.contextNew(NFT_CTX_DEFAULT);
  if (context === 0) throw new NativeError('native.nftables', 'nft_ctx_new gave no context');
  try {
    lib.setFlags(context, NFT_CTX_OUTPUT_JSON | (options.stateless === true ? NFT_CTX_OUTPUT_STATELESS : 0));
    if (lib.bufferOutput(context) !== 0 || lib.bufferError(context) !== 0) {
      throw new NativeError('native.nftables', 'libnftables could not make its buffers');
    }
    const failed = lib.run(context, text) !== 0;
    const complaint = textAt(lib.error(context), MAX_OUTPUT_BYTES).trim().slice(0, MAX_ERROR_TEXT);
    if (failed) throw new NativeError('native.nftables', complaint === '' ? 'nft refused without a word' : complaint);
    const listing = textAt(lib.output(context), MAX_OUTPUT_BYTES);
    return listing === '' ? undefined : (JSON.parse(listing) as unknown);
  } finally {
    lib.contextFree(context);
  }
}

/**
 * Where the library gets no netlink socket it ends the process. Therefore the sockets it opens, one of the context and one
 * for interface names, are tried first. @throws SysError (EMFILE, EPROTONOSUPPORT where the kernel has no nfnetlink)
 */
function provideSockets(): void {
  withSocket(undefined, NetlinkProtocol.NETFILTER, () => withSocket(undefined, NetlinkProtocol.ROUTE, () => undefined));
}

/** A copy of a C text. @throws native.bounds when it has no end within `maxBytes` */
function textAt(address: Pointer, maxBytes: number): string {
  if (address === 0) return '';
  const length = c_strnlen(address, maxBytes + 1);
  if (length > maxBytes) throw new NativeError('native.bounds', `nft wrote more than ${maxBytes} bytes`);
  if (length === 0) return '';
  const copy = Buffer.allocUnsafeSlow(length);
  c_memcpy(pointerTo(copy), address, length);
  return copy.toString('utf8');
}

const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_GETGEN = 16;
const NFGENMSG_BYTES = 4;
const NFTA_GEN_ID = 1;

/**
 * The generation of the namespace's rule set: a 32-bit number that changes with each commit by anybody, so an equal number
 * proves that nothing changed. @param socket an open one of NetlinkProtocol.NETFILTER; absent: the current namespace
 * @throws SysError (EPERM without CAP_NET_ADMIN), native.netlink
 */
export function nftGeneration(socket?: NetlinkSocket): number {
  return withSocket(socket, NetlinkProtocol.NETFILTER, open => {
    const type = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN;
    const [reply] = open.request(type, 0, new Uint8Array(NFGENMSG_BYTES));
    const id = reply === undefined ? undefined : readAttributes(reply, NFGENMSG_BYTES).get(NFTA_GEN_ID);
    if (id === undefined || id.length < 4) throw new NativeError('native.netlink', 'no generation in the answer');
    return id.readUInt32BE(0);
  });
}
