// Test support: a control plane as a process of its own, which is the only way to see its signals, its exit status and a
// restart. Flags come as one JSON argument; `complain` goes to stderr, the log to stdout, as in the product.
import { runControl } from '../src/main.ts';

const flags = JSON.parse(process.argv[2] ?? '{}') as Record<string, string>;
process.exitCode = await runControl({ flags, env: process.env, configFile: undefined });
