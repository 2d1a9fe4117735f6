// Entry of the `ambit` command.
import '@ambit/native/quick-resolve';

await import('./program.ts');
