// The demo's own entry, apart from the package's: whoever only wants a bed does not load it.
export { type DemoMode, type DemoOptions, runDemo } from './demo.ts';
export type { StoreKind } from './shop.ts';
