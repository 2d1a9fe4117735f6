// The first lines of the log: version, what is odd about the configuration, and the configuration itself, without secrets.
import { readFileSync } from 'node:fs';
import type { Config } from './config.ts';
import { Bare, type Fields, type Logger } from './log.ts';

export function announceStart(config: Config, log: Logger): void {
  log.info('Starting the node proxy', [['version', proxyVersion()]]);
  for (const warning of config.warnings) log.warn(warning);
  log.info('running with config', configFields(config));
}

/** As its package says. */
export function proxyVersion(): string {
  const file: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return typeof file === 'object' && file !== null && 'version' in file ? String(file.version) : 'unknown';
}

function configFields(config: Config): Fields {
  // Values an operator may look for; inline mesh text and file contents stay out of the log.
  return [
    ['mode', new Bare(config.proxyMode)],
    ['node', config.nodeName],
    ['network', config.network],
    ['cluster', config.clusterId],
    ['workers', config.workers],
    ['xds', config.xds?.url],
    ['ca', config.devCa === undefined ? config.ca?.url : 'development'],
    ['local_config', config.localConfig?.kind === 'file' ? config.localConfig.path : config.localConfig?.kind],
    ['inpod_uds', config.proxyMode === 'shared' ? config.inpodUds : undefined],
    ['packet_mark', config.packetMark],
    ['memory_budget', config.memoryBudgetBytes],
    ['termination_deadline', `${config.terminationDeadlineMs}ms`],
  ];
}
