// The control plane as the demo sees it while it runs: asked again and again, so that an edited object shows.
import type { ControlProcess } from '../control-process.ts';
import { type MeshFacts, readMeshFacts } from './mesh-facts.ts';
import type { PlannedEdge } from './shop-plan.ts';
import type { ControlState, Expected } from './verdict.ts';

export class ControlWatch {
  readonly #control: ControlProcess;
  readonly #edges: readonly PlannedEdge[];
  /** For people. */
  readonly #objects: string;
  #facts: MeshFacts;
  #failure: string | undefined;
  #isEdited = false;

  private constructor(control: ControlProcess, edges: readonly PlannedEdge[], objects: string, facts: MeshFacts) {
    this.#control = control;
    this.#edges = edges;
    this.#objects = objects;
    this.#facts = facts;
    this.#note(facts);
  }

  /** @throws when it does not answer */
  static async open(control: ControlProcess, edges: readonly PlannedEdge[], objects: string): Promise<ControlWatch> {
    const facts = await readMeshFacts(async path => control.page(path), edges);
    return new ControlWatch(control, edges, objects, facts);
  }

  /** Asks again; without an answer the last one stays, with the reason. Never rejects. */
  async refresh(): Promise<void> {
    try {
      this.#note(await readMeshFacts(async path => this.#control.page(path), this.#edges));
      this.#failure = undefined;
    } catch (error) {
      this.#failure = this.#control.isRunning ? reasonOf(error) : 'it has ended';
    }
  }

  get expected(): Expected[] {
    return this.#edges.map(({ source, destination, want }, i) => {
      return { source, destination, want, configured: this.#facts.verdicts[i] };
    });
  }

  get state(): ControlState {
    const { workloads, services, policies, problems } = this.#facts;
    const known = { url: this.#control.url, objects: this.#objects, workloads, services, policies, problems };
    return { ...known, isEdited: this.#isEdited, failure: this.#failure };
  }

  #note(facts: MeshFacts): void {
    this.#facts = facts;
    // What was let through or denied meanwhile stays in the counts, so this is never taken back.
    this.#isEdited ||= this.#edges.some(({ want }, i) => want !== facts.verdicts[i]);
  }
}

/** `fetch` hides the system error in the cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error && error.cause.message !== '' ? error.cause.message : error.message;
}
