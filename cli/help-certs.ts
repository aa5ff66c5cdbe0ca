/** Help texts of the commands about certificates; see `help.ts`. */
import type { CommandHelp } from './command-help.ts';

/** By the names of the commands. */
export const CERTS_HELP: Readonly<Record<string, CommandHelp>> = {
  certs: {
    description: `Certificates for Redis with TLS, and for the API of the masters, from an
authority of your own in a directory. Needs the program openssl. Never replaces
a file unless --force says so; keys are readable by their owner alone.`,
    syntax: 'init | issue NAME | ls | check FILE',
    after: `
Examples:
  kaon certs init
  kaon certs issue redis --host redis.example.org --ip 10.0.0.5
  kaon certs issue node1 --client
  kaon certs ls
`,
  },
  'certs init': {
    description: `Makes an authority: ca.crt, which everybody gets, and ca.key, which signs and
stays where it is. It can sign servers and clients, and no other authority.`,
    syntax: '[options]',
    after: '',
  },
  'certs issue': {
    description: `Makes NAME.crt and NAME.key, signed by the authority. A server needs every name
and address by which it is reached. Redis servers that replicate, or make a
Redis Cluster, are clients of each other: give neither --server nor --client.
Says at the end which lines redis.conf and Kaon's configuration need.`,
    syntax: '[options] NAME',
    after: `
Examples:
  kaon certs issue redis --host redis.example.org,redis --ip 10.0.0.5
  kaon certs issue node1 --client --days 90
  kaon certs issue node1 --client --force      a new one before the old one ends

A process of Kaon takes a new one up at its next connection, without a restart.
`,
  },
  'certs ls': {
    description: `The certificates in the directory: what each is for, who has signed it, when it
ends. Warns about those that end within 30 days.`,
    syntax: '[options]',
    after: `
Exit code: 0 all are good; 1 one of them cannot be used.
`,
  },
  'certs check': {
    description: `Looks into a certificate: dates, names, who has signed it, and whether the key
beside it is its own and secret.`,
    syntax: '[options] FILE',
    after: `
Examples:
  kaon certs check /etc/kaon/tls/node1.crt --ca /etc/kaon/tls/ca.crt
  kaon certs check redis.crt --days 14         for a timer that warns in time

Exit code: 0 it is good; 1 it is not, or not for so long; 3 no such file.
`,
  },
};
