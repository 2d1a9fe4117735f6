// Entry of a data worker thread.
import '@ambit/native/quick-resolve';

await import('./main.ts');
