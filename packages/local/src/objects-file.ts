// The one file in which the control plane finds this machine's pods and services. Each part (started workloads, containers)
// says what it has; the file is written when that changes, whole.
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { writeAtomically } from './atomic-file.ts';
import { type LocalService, type PodFacts, renderObjects } from './objects.ts';

export interface ObjectsPart {
  readonly pods: readonly PodFacts[];
  /** Names of pods that are found by a headless service of that name. */
  readonly headless: readonly { readonly namespace: string; readonly name: string }[];
  readonly services: readonly LocalService[];
}

export class ObjectsFile {
  readonly #path: string;
  readonly #parts = new Map<string, ObjectsPart>();
  #written: string | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** @throws the file system's error */
  set(part: string, objects: ObjectsPart): void {
    this.#parts.set(part, objects);
    const parts = [...this.#parts.values()];
    const text = renderObjects(
      parts.flatMap(({ pods }) => pods),
      parts.flatMap(({ headless }) => headless),
      parts.flatMap(({ services }) => services),
    );
    if (text === this.#written) return;
    mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 });
    writeAtomically(this.#path, text);
    this.#written = text;
  }
}
