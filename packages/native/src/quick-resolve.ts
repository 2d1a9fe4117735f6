// Imported for its effect, by an entry before all else: names of our own modules are resolved without asking the file system.
// A proxy loads 200 small files, and Node spends half of that time on finding out, for each import, what it may be: on the
// links of its path, the package.json above it and the format that says. Of `./x.ts` all of that is known.
import { registerHooks, type ResolveFnOutput } from 'node:module';

/** One version of each of our packages is installed, so that its name means the same everywhere. */
const packages = new Map<string, ResolveFnOutput>();

registerHooks({
  resolve(specifier, context, next) {
    if (specifier.startsWith('./') || specifier.startsWith('../')) {
      if (!specifier.endsWith('.ts') || context.parentURL === undefined) return next(specifier, context);
      const { href } = new URL(specifier, context.parentURL);
      return { url: href, format: 'module-typescript', shortCircuit: true };
    }
    if (!specifier.startsWith('@ambit/')) return next(specifier, context);
    const known = packages.get(specifier) ?? { ...next(specifier, context), shortCircuit: true };
    packages.set(specifier, known);
    return known;
  },
});
