/**
 * The line that brings a node into a cluster: all that it needs to know, in one word that can be pasted. It has the
 * password and the token of that node in it, so it is as secret as they are. Pure.
 */
import { z } from 'zod';

const PREFIX = 'kaon-join1.';

/** What a line says. `install.sh --join` takes it apart by these names. */
const Join = z.object({
  /** Address of Redis as the node sees it, with the user and without the password. */
  redis: z.string().min(1),
  cluster: z.string().min(1),
  /** Id of the agent; of another role the name that it was made for. */
  agentId: z.string().min(1),
  redisUser: z.string().min(1),
  redisPassword: z.string().min(1),
  /** Of a secured cluster. */
  token: z.string().min(1).optional(),
  /** Certificate of the authority of Redis, PEM. */
  caPem: z.string().min(1).optional(),
});
/** What a line says. */
export type Join = Readonly<z.infer<typeof Join>>;

/** @returns the line, without spaces and without a newline */
export function joinLineOf(join: Join): string {
  return PREFIX + Buffer.from(JSON.stringify(join)).toString('base64url');
}

/** @returns what the line says; undefined if it is none, or was cut off */
export function parseJoinLine(line: string): Join | undefined {
  const text = line.trim();
  if (!text.startsWith(PREFIX)) return undefined;
  try {
    const json: unknown = JSON.parse(
      Buffer.from(text.slice(PREFIX.length), 'base64url').toString('utf8'),
    );
    return Join.safeParse(json).data;
  } catch {
    return undefined; // What is no JSON was cut off, or is no line of ours.
  }
}

/**
 * The address of the same Redis for somebody else: without the user and the files of whoever uses it here.
 *
 * @param login of the other, `USER` or `USER:PASSWORD`
 */
export function addressAs(url: string, login: string): string {
  const [, scheme = '', rest = '', query = ''] =
    /^([a-z+]+:\/\/)(?:[^/?]*@)?([^?]*)\??(.*)$/s.exec(url) ?? [];
  const kept = query.split('&').filter((part) => !/^(?:ca|cert|key|$)(?:=|$)/.test(part));
  return `${scheme}${login}@${rest}${kept.length === 0 ? '' : `?${kept.join('&')}`}`;
}
