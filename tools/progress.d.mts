/** A duration as people read it: `0.42 s`, `14.2 s`, `3 min 5 s`. */
export function duration(ms: number): string;
