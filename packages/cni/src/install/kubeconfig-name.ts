// The name of the file with the plugin's credentials in the agent's run directory: Istio's, so that its plugin and ours find
// each other's.
export const KUBECONFIG_NAME = 'istio-cni-kubeconfig';
