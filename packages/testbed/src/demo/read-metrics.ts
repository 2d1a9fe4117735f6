// Reads a proxy's metrics as a scraper does, for what comes with it: the proxy's workers first tell all they know, in records.
const STATS_PORT = 15_020;
const TIMEOUT_MS = 1_000;

/** Never rejects: without an answer, records come when the workers tell by themselves, every few seconds. */
export async function readMetrics(ip: string): Promise<void> {
  const url = `http://${ip}:${STATS_PORT}/stats/prometheus`;
  await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) }).then(
    async answer => answer.arrayBuffer(),
    () => undefined,
  );
}
