// What people are told of a pod where they look at it (`kubectl describe pod`). Best effort: saying something takes no time, never
// throws, and may come to nothing.

export interface PodEvent {
  readonly uid: string;
  readonly namespace: string;
  /** The pod's. */
  readonly name: string;
  readonly type: 'Warning' | 'Normal';
  /** CamelCase, for machines; the same one of the same pod again is counted, not repeated. */
  readonly reason: string;
  readonly message: string;
}

export interface PodEventCounts {
  /** Requests that the API server took. */
  readonly written: number;
  readonly failed: number;
  /** Not written when they were said, for one of the limits; the next that is written has them in its count. */
  readonly suppressed: number;
}

export interface PodEventSink {
  readonly say: (event: PodEvent) => void;
  readonly counts: PodEventCounts;
}
