// Kubernetes quantities as far as the proxy's environment uses them: CPU (`2`, `1.5`, `500m`) and memory (`256Mi`).
// Pure; every length is bounded.

const SCALE: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};
const QUANTITY = /^(\d{1,15}(?:\.\d{0,9})?|\.\d{1,9})(n|u|m|k|M|G|T|Ki|Mi|Gi|Ti)?$/;

/** The plain number a quantity stands for (cores, bytes), or undefined when `text` is not one. */
export function parseQuantity(text: string): number | undefined {
  const match = QUANTITY.exec(text);
  if (match === null) return undefined;
  return Number(match[1]) * (SCALE[match[2] ?? ''] ?? Number.NaN);
}

/** Whole cores a CPU quantity needs, rounded up: `500m` is 1, `1.5` is 2. Undefined when it is not a quantity. */
export function parseCpuCount(text: string): number | undefined {
  const cores = parseQuantity(text);
  // The product of a decimal and a binary fraction may lie a hair above a whole number; do not round that up.
  return cores === undefined ? undefined : Math.ceil(cores - 1e-9);
}
