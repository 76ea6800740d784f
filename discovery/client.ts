// What other components import of the token service: its client, and the command that `flynn-host` offers.
export { discoveryServerUsage, runDiscoveryServer } from './serve.ts'
export { createToken, registerHost, tokenAddresses, tokenHosts } from './tokens.ts'
