// YAML for those who read a little of it once: the parser, which takes megabytes for as long as a process lives, is loaded only
// for what is not JSON.

/** @throws the parser's error */
export async function parseYamlText(text: string): Promise<unknown> {
  const start = text.trimStart();
  if (start.startsWith('[') || start.startsWith('{')) {
    try {
      return JSON.parse(text);
    } catch {
      // YAML's own flow style looks like it.
    }
  }
  return (await import('yaml')).parse(text, { maxAliasCount: 0 });
}
