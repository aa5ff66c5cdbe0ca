/** The module that a user has written: `map`, `reduce`, and what it may have besides. */
import { pathToFileURL } from 'node:url';

const ENCODINGS = ['utf8', 'latin1'];

/**
 * @param path absolute
 * @returns `{map, reduce, combine, encoding}`; `combine` may be undefined
 * @throws Error that says what is wrong with it
 */
export async function loadProgram(path) {
  let module;
  try {
    module = await import(pathToFileURL(path).href);
  } catch (error) {
    throw new Error(`the program ${path} cannot be loaded: ${error?.message ?? error}`, {
      cause: error,
    });
  }
  const { map, reduce, combine, encoding = 'utf8' } = module;
  for (const [name, value] of Object.entries({ map, reduce, combine })) {
    const isLeftOut = name === 'combine' && value === undefined;
    if (isLeftOut || typeof value === 'function') continue;
    throw new Error(`the program ${path} exports no function ${name}`);
  }
  if (!ENCODINGS.includes(encoding)) {
    throw new Error(`the program ${path} has an encoding that is not ${ENCODINGS.join(' or ')}`);
  }
  return { map, reduce, combine, encoding };
}

/** Calls a function of the user's, and says of what it throws where that was. It may not be asynchronous. */
export function callUser(name, where, call) {
  let returned;
  try {
    returned = call();
  } catch (error) {
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    throw new Error(`${name} failed at ${where()}: ${text}`, { cause: error });
  }
  if (typeof returned?.then === 'function') {
    throw new Error(`${name} has returned a promise at ${where()}; it must do its work at once`);
  }
}
