// What would be programmed into a pod's namespace, as text, without programming it: for dry runs and golden files. Pure.
import { renderIptablesTables, restoreInput } from './iptables-redirect.ts';
import { renderNftRedirect } from './nft-redirect.ts';
import type { RedirectBackend, RedirectPlan } from './redirect-plan.ts';
import { CONNECTION_MARK, familiesOf, type IpFamily, MARK_MASK, ROUTE_TABLE, RULE_PRIORITY } from './redirect-rules.ts';

/**
 * The whole of it: routing rules and routes as arguments of `ip`, then one JSON command of nft a line, or the input of
 * iptables-restore for each family. Ends with a line feed; `#` begins a remark.
 */
export function renderRules(plan: RedirectPlan, backend: RedirectBackend['name'] = 'nftables'): string {
  const families = familiesOf(plan);
  const routes = `# ip\n${families.map(routeText).join('')}`;
  if (backend === 'nftables') {
    const commands = renderNftRedirect(plan).nftables.map(command => `${JSON.stringify(command)}\n`);
    return `${routes}# nft --json, one transaction\n${commands.join('')}`;
  }
  const inputs = families.map(family => {
    const program = family === 4 ? 'iptables-restore' : 'ip6tables-restore';
    return `# ${program} --noflush\n${restoreInput(renderIptablesTables(plan, family))}`;
  });
  return routes + inputs.join('');
}

function routeText(family: IpFamily): string {
  const hex = (value: number) => `0x${value.toString(16)}`;
  const everything = family === 4 ? '0.0.0.0/0' : '::/0';
  return (
    `-${family} route replace local ${everything} dev lo table ${ROUTE_TABLE}\n` +
    `-${family} rule add fwmark ${hex(CONNECTION_MARK)}/${hex(MARK_MASK)} priority ${RULE_PRIORITY} table ${ROUTE_TABLE}\n`
  );
}
