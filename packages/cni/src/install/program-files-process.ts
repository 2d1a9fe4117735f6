// Prints `programFiles(argv[2])` as JSON. A process of its own: what strips types stays in memory, 40 MB of it, and says that it
// is experimental.
import { programFiles } from './program-files.ts';

process.stdout.write(JSON.stringify([...programFiles(process.argv[2] ?? '')]));
