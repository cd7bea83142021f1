/**
 * The runs that are signed with a request: eight sets of nodes, spread so that whichever nodes fail, one of the sets is
 * likely to be without them. `client/runs.py` makes the same choice.
 * @module
 */
import { random } from "./bytes.js";

const COUNT = 8;
const SEARCHED = 300;
const STRIDES = 2;
const LOST_TOGETHER = 3;
const FEW = 8;

/**
 * @param {number[]} order PartyIds, the preferred first
 * @param {number} t
 * @param {number[]} [avoid] in no set as long as t others are left, then in the later ones
 * @returns {number[][]} eight sets, each ascending; when there are fewer they begin again
 */
export function spread(order, t, avoid = []) {
  const good = order.filter((party) => !avoid.includes(party));
  const sets = [...cover(good, t), ...cover([...good, ...order.filter((party) => avoid.includes(party))], t)];
  const found = [...new Map(sets.map((set) => [set.join(), set])).values()].slice(0, COUNT);
  return found.length ? Array.from({ length: COUNT }, (_, i) => found[i % found.length]) : [];
}

/** @template T @param {T[]} list @param {number} by @returns {T[]} begun again elsewhere: nodes repeat what a number gave before */
export const turned = (list, by) => [...list.slice(by), ...list.slice(0, by)];

/** @template T @param {T[]} list @returns {T[]} in a random order */
export const shuffled = (list) =>
  list.map((item) => ({ item, at: random(4).join() })).sort((a, b) => (a.at < b.at ? -1 : 1)).map(({ item }) => item);

/** @param {number[]} order @param {number} t */
const cover = (order, t) => pattern(order.length, t).map((places) => places.map((place) => order[place]).sort((a, b) => a - b));

/**
 * @param {number} n
 * @param {number} t
 * @returns {number[][]} at most eight different sets of t of the places 0..n-1
 */
export function pattern(n, t) {
  const left = someSets(n, t);
  /** @type {number[][]} */
  const found = [];
  /** @type {Set<string>} */
  const survived = new Set();
  while (left.length && found.length < COUNT) {
    const gains = left.map((places) => gain(n, places, survived));
    const best = gains.reduce((best, each, i) => (isMore(each, gains[best]) ? i : best), 0);
    const [places] = left.splice(best, 1);
    found.push(places);
    survives(n, places).forEach((lost) => survived.add(lost.join()));
  }
  return found;
}

/** @param {number} n @param {number} t */
function someSets(n, t) {
  const places = Array.from({ length: n }, (_, i) => i);
  if (choices(n, t) <= SEARCHED) return subsets(places, t);
  // Too many to try: blocks around a circle, at several strides.
  /** @type {Map<string, number[]>} */
  const found = new Map();
  for (let stride = 1; stride <= STRIDES; stride++) {
    for (const start of places) {
      const block = new Set(Array.from({ length: t }, (_, i) => (start + stride * i) % n));
      const set = [...block].sort((a, b) => a - b);
      if (set.length === t) found.set(set.join(), set);
    }
  }
  return [...found.values()];
}

/** @param {number} n @param {number} t */
const choices = (n, t) => Array.from({ length: Math.max(0, t) }, (_, i) => i).reduce((all, i) => (all * (n - i)) / (i + 1), 1);

/** @param {number[]} items @param {number} size @returns {number[][]} in the order of the items */
function subsets(items, size) {
  if (size === 0) return [[]];
  return items.flatMap((item, i) => subsets(items.slice(i + 1), size - 1).map((rest) => [item, ...rest]));
}

/** @param {number} n @param {number[]} places @returns {number[][]} the losses that leave these whole */
function survives(n, places) {
  const others = Array.from({ length: n }, (_, i) => i).filter((place) => !places.includes(place));
  const most = Math.max(1, LOST_TOGETHER - Math.floor(others.length / FEW));
  return Array.from({ length: most }, (_, i) => subsets(others, i + 1)).flat();
}

/** @param {number} n @param {number[]} places @param {Set<string>} survived */
function gain(n, places, survived) {
  const fresh = survives(n, places).filter((lost) => !survived.has(lost.join()));
  return Array.from({ length: LOST_TOGETHER }, (_, i) => fresh.filter((lost) => lost.length === i + 1).length);
}

/** @param {number[]} one @param {number[]} other */
function isMore(one, other) {
  const at = one.findIndex((each, i) => each !== other[i]);
  return at >= 0 && one[at] > other[at];
}
