/** What to do with a certificate that has just been made: lines to paste. Pure. */
import type { Made } from './authority.ts';
import type { CertificateRequest } from './extensions.ts';

/** @returns lines after `kaon certs init` */
export function nextAfterInit(directory: string): string[] {
  const dir = directory === 'kaon-certs' ? '' : ` --dir ${directory}`;
  return [
    'next, a certificate for Redis, with the names by which it is reached:',
    `  kaon certs issue redis${dir} --host redis.example.org --ip 10.0.0.5`,
    'and one for each client: a node, a master, a laptop:',
    `  kaon certs issue node1${dir} --client`,
  ];
}

/** What the lines are made of. */
export interface Issued {
  readonly made: Made;
  readonly request: CertificateRequest;
  /** Path of the authority's certificate. */
  readonly authority: string;
}

/** @returns lines after `kaon certs issue` */
export function nextAfterIssue(issued: Issued): string[] {
  const { usages } = issued.request;
  return [
    ...(usages.includes('server') ? serverLines(issued) : []),
    ...(usages.length > 1 ? [''] : []),
    ...(usages.includes('client') ? clientLines(issued) : []),
  ];
}

function serverLines({ made, request, authority }: Issued): string[] {
  const isBoth = request.usages.length > 1;
  const host = request.hosts[0] ?? request.ips[0] ?? 'HOST';
  return [
    'lines for redis.conf, with the files where the user of Redis may read them:',
    '  port 0',
    '  tls-port 6379',
    `  tls-cert-file ${made.certPath}`,
    `  tls-key-file ${made.keyPath}`,
    `  tls-ca-cert-file ${authority}`,
    '  tls-auth-clients yes',
    ...(isBoth ? ['  tls-replication yes', '  tls-cluster yes'] : []),
    'or, for the API of a master:',
    `  kaon master --listen ${host}:7420 --tls-cert ${made.certPath} \\`,
    `    --tls-key ${made.keyPath}`,
  ];
}

function clientLines({ made, authority, request }: Issued): string[] {
  const host = request.usages.length > 1 ? (request.hosts[0] ?? request.ips[0] ?? 'HOST') : 'HOST';
  const address = `rediss://${host}:6379`;
  return [
    "lines for Kaon's configuration, /etc/kaon/agent.toml and the like:",
    `  redis = "${address}"`,
    `  redis-ca = "${authority}"`,
    `  redis-cert = "${made.certPath}"`,
    `  redis-key = "${made.keyPath}"`,
    'or for a shell:',
    `  export KAON_REDIS=${address}`,
    `  export KAON_REDIS_CA=${authority}`,
    `  export KAON_REDIS_CERT=${made.certPath}`,
    `  export KAON_REDIS_KEY=${made.keyPath}`,
  ];
}
