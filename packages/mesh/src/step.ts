// One step of a decision, so that every answer can say why. Ids follow the decision trees of the protocol notes:
// O1..O7 outbound, S1..S8 inbound tunnel, P1..P7 inbound plaintext, R for authorization.

export interface Step {
  readonly id: string;
  readonly text: string;
}

export function step(id: string, text: string): Step {
  return { id, text };
}
