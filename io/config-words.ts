/** Of words that exist, the one that somebody who wrote another may have meant. */

/** Of four characters one may be wrong. */
const CHARACTERS_PER_SLIP = 4;

/** @returns the word that needs the fewest changes, if it is not far off; undefined if none is near */
export function closest(word: string, known: readonly string[]): string | undefined {
  const slipsMax = Math.max(1, Math.floor(word.length / CHARACTERS_PER_SLIP));
  let best: { readonly word: string; readonly slips: number } | undefined;
  for (const candidate of known) {
    // Who forgets the rest of a name, or says more than it, means it all the same.
    const isPart = word.length > 3 && (candidate.includes(word) || word.includes(candidate));
    const slips = isPart ? Math.min(slipsMax, slipsOf(word, candidate)) : slipsOf(word, candidate);
    if (slips <= slipsMax && slips < (best?.slips ?? Infinity)) best = { word: candidate, slips };
  }
  return best?.word;
}

/** Wrong, missing, superfluous and swapped characters: the distance of Damerau and Levenshtein (optimal string alignment). */
function slipsOf(one: string, other: string): number {
  const rows: number[][] = [Array.from({ length: other.length + 1 }, (_, index) => index)];
  for (let i = 1; i <= one.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= other.length; j += 1) {
      const at = (di: number, dj: number): number => (di === 0 ? row : rows[i - di])?.[j - dj] ?? 0;
      const isSame = one[i - 1] === other[j - 1];
      const isSwapped =
        i > 1 && j > 1 && one[i - 1] === other[j - 2] && one[i - 2] === other[j - 1];
      const least = Math.min(at(1, 0) + 1, at(0, 1) + 1, at(1, 1) + (isSame ? 0 : 1));
      row.push(isSwapped ? Math.min(least, at(2, 2) + 1) : least);
    }
    rows.push(row);
  }
  return rows[one.length]?.[other.length] ?? 0;
}
