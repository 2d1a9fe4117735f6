// What a source of objects promises, whichever it is (files, a Kubernetes API server).
import type { ObjectChange } from '../objects/types.ts';
import type { Diagnostic } from '../diagnostic.ts';

/** Takes what changed. Called with at least one change, never again before it returned. */
export type ChangeSink = (changes: readonly ObjectChange[]) => void;

export interface SourceStatus {
  /** For people: `files examples/shop`, `kubernetes https://10.0.0.1:6443`. */
  readonly name: string;
  /** Whether the first whole state was delivered. */
  readonly isSynced: boolean;
  /** What stands in the way now (a broken file, a refused list), with a code; the last good state stays in force. */
  readonly problems: readonly Diagnostic[];
}

export interface Source {
  /**
   * Starts delivering. Resolves when the first whole state has been delivered; keeps delivering changes until `close`.
   * @throws ControlError when it can never work (no such directory, no such server configuration)
   */
  start(sink: ChangeSink): Promise<void>;
  readonly status: SourceStatus;
  /** Stops; the sink is not called any more. Closing twice is fine. */
  close(): Promise<void>;
}
