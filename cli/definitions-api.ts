/** Flags of `kaon master` that are about its HTTP API; see `definitions.ts`. */
import type { Option } from 'commander';
import { flag } from './definition.ts';

/** @returns the flags */
export function listenOptions(): Option[] {
  return [
    flag('--listen <[host:]port>', 'an HTTP API, on the loopback by default (default: none)'),
    flag('--listen-insecure', 'on other addresses too, although no token is asked for'),
    flag('--tls-cert <path>', 'HTTPS with this certificate'),
    flag('--tls-key <path>', 'its key (default: the credential tls-key)'),
    flag('--tls-client-ca <path>', 'only for clients with a certificate of this authority'),
  ];
}
