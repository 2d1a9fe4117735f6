// Whose requests are read: the annotation `ambit.io/l7` of a pod (or its namespace), by port of the server. Telemetry fails
// open: what does not parse is skipped, and said once by whoever asks.

/** A pod's choice. A port that is not named goes by `otherwise`; undefined there: by the proxy's own setting. */
export interface L7Choice {
  readonly otherwise: boolean | undefined;
  readonly ports: ReadonlyMap<number, boolean>;
  /** Words that mean nothing. */
  readonly unknown: readonly string[];
}

const NO_PORTS: ReadonlyMap<number, boolean> = new Map();
const NO_CHOICE: L7Choice = { otherwise: undefined, ports: NO_PORTS, unknown: [] };
/** The annotation has at most 128 bytes, so no more words than this. */
const MAX_WORDS = 64;

/** Reads `on`, `off`, and `PORT=on` or `PORT=off`, separated by commas; the last word on a thing holds. */
export function parseL7Choice(text: string | undefined): L7Choice {
  if (text === undefined || text === '') return NO_CHOICE;
  let otherwise: boolean | undefined;
  const ports = new Map<number, boolean>();
  const unknown: string[] = [];
  for (const word of text.split(',', MAX_WORDS).map(each => each.trim())) {
    const [, port, is] = /^(?:(\d{1,5})=)?(on|off)$/.exec(word) ?? [];
    if (is === undefined || Number(port ?? 1) < 1 || Number(port ?? 1) > 65_535) {
      if (word !== '') unknown.push(word);
    } else if (port === undefined) otherwise = is === 'on';
    else ports.set(Number(port), is === 'on');
  }
  return { otherwise, ports, unknown };
}

export function isL7Chosen(choice: L7Choice, port: number, setting: boolean): boolean {
  return choice.ports.get(port) ?? choice.otherwise ?? setting;
}
