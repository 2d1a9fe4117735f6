// How this node introduces itself to the control plane: id and metadata as istiod expects them of a ztunnel.
import type { DeltaNode } from '@ambit/wire/grpc';
import type { Config } from '../config.ts';

type NodeConfig = Pick<
  Config,
  'instanceIp' | 'nodeName' | 'podName' | 'podNamespace' | 'proxyMetadata' | 'proxyMetadataJson'
>;

/** The domain in the id is this literal whatever the cluster's domain is. */
const ID_DOMAIN = 'svc.cluster.local';

/** Later metadata overwrite earlier: own names, proxy metadata, then JSON metadata. */
export function xdsNode(config: NodeConfig): DeltaNode {
  const { instanceIp, nodeName, podName, podNamespace } = config;
  const metadata: Record<string, unknown> = {
    NAME: podName,
    NAMESPACE: podNamespace,
    INSTANCE_IPS: instanceIp,
    NODE_NAME: nodeName ?? '',
    ...Object.fromEntries(config.proxyMetadata),
    ...Object.fromEntries(config.proxyMetadataJson),
  };
  return {
    id: `ztunnel~${instanceIp}~${podName}.${podNamespace}~${podNamespace}.${ID_DOMAIN}`,
    // Texts, and what JSON.parse made.
    metadata: metadata as DeltaNode['metadata'],
  };
}
