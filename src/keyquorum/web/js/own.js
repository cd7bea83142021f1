/**
 * Which keys are a person's: those that the contract made for his login and for nobody else. Anybody can put anybody's
 * login on a key of his own, so every other key that opens with the login is listed apart, with who owns it, and a page
 * at a time: a list that strangers fill hides nothing, and costs nothing until somebody looks at it.
 * @module
 */
import * as checks from "./checks.js";
import { finality, tokenIn, view } from "./chain.js";
import { create } from "./keys.js";
import { claims } from "./session.js";
import { load, save } from "./store.js";

/** @typedef {import("./chain.js").Network} Network */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./checks.js").Identity} Identity */
/** @typedef {import("./checks.js").Seen} Seen */
/** @typedef {{relay?: string, words: string[], shared: string[]}} Memory of one login, in this browser */
/** @typedef {{key: Seen, who: Identity, kind: "own" | "shared" | "foreign", word: string | null}} Held a key, and by which login it is opened */

const PAGE = 20;
const REMEMBERED = 20;
const COUNT = "countTokenIdsForAuthMethod(uint256,bytes)";
const LIST = "getTokenIdsForAuthMethodPage(uint256,bytes,uint256,uint256)";

/** @param {Identity} who */
const nameIn = ({ type, id }) => `own:${type}:${id}`;

/** @param {Identity} who @returns {Promise<Memory>} */
const memoryOf = async (who) => (await load(nameIn(who))) ?? { words: [], shared: [] };

/** @param {Session} session @returns {Identity[]} */
export const identitiesOf = (session) => claims(session).methods;

/**
 * @param {Identity} who
 * @param {"words" | "shared"} list
 * @param {string} entry
 */
async function remember(who, list, entry) {
  const memory = await memoryOf(who);
  memory[list] = [entry, ...memory[list].filter((each) => each !== entry)].slice(0, REMEMBERED);
  await save(nameIn(who), memory);
}

/** A login was added to a key here, by its own person: in this browser it is known from then on. @param {Identity} who @param {string} tokenId */
export const rememberShared = (who, tokenId) => remember(who, "shared", tokenId);

/**
 * @param {Network} network
 * @param {Session} session
 * @returns {Promise<Held[]>} the keys made for these logins, then those that the person added the login to in this browser
 */
export async function held(network, session) {
  const found = await Promise.all(identitiesOf(session).map((who) => heldBy(network, who)));
  const keys = found.flat();
  return keys.filter((one, i) => keys.findIndex((each) => each.key.token_id === one.key.token_id) === i).sort((a, b) => Number(a.kind === "shared") - Number(b.kind === "shared"));
}

/** @param {Network} network @param {Identity} who @returns {Promise<Held[]>} */
async function heldBy(network, who) {
  const { relay, words, shared } = await memoryOf(who);
  const made = relay ? [null, ...words] : [];
  const own = await Promise.all(made.map((word) => madeFor(network, relay ?? "", who, word)));
  const others = await Promise.all(shared.map((token) => sharedWith(network, who, token)));
  return [...own, ...others].flatMap((one) => one ?? []);
}

/** @param {Network} network @param {string} relay @param {Identity} who @param {string | null} word @returns {Promise<Held | undefined>} */
async function madeFor(network, relay, who, word) {
  const token = await checks.keyFor(network, relay, who, word, finality(network));
  if (!token) return undefined;
  try {
    return { key: await checks.ownKey(network, relay, who, word, token), who, kind: "own", word };
  } catch (error) {
    // It is not the login's own any more: then it stands with the others.
    if (error instanceof checks.BadAnswer) return undefined;
    throw error;
  }
}

/** @param {Network} network @param {Identity} who @param {string} token @returns {Promise<Held | undefined>} */
async function sharedWith(network, who, token) {
  const key = await checks.look(network, token, who);
  return key.permitted && key.owner === key.address ? { key, who, kind: "shared", word: null } : undefined;
}

/**
 * Ask for a key of this login: its first, or the one of a word.
 * @param {Network} network
 * @param {Session} session
 * @param {string | null} word
 * @param {() => void} [waiting]
 * @returns {Promise<Held>}
 */
export async function own(network, session, word, waiting) {
  const who = identitiesOf(session)[0];
  const { key, relay } = await create(network, session, word, waiting);
  await save(nameIn(who), { ...(await memoryOf(who)), relay });
  if (word !== null) await remember(who, "words", word);
  return { key, who, kind: "own", word };
}

/**
 * @param {Network} network
 * @param {Session} session
 * @returns {Promise<{who: Identity, places: number}[]>} for each login how many places the chain's list of its keys has
 */
export const places = async (network, session) =>
  Promise.all(
    identitiesOf(session).map(async (who) => {
      const [count] = await view(network, "PKPPermissions", COUNT, ["uint", "bytes"], [who.type, who.id], ["uint"]);
      return { who, places: Number(count) };
    }),
  );

/**
 * The keys that open with these logins, whoever made them, a page with each step.
 * @param {Network} network
 * @param {{who: Identity, places: number}[]} lists
 * @param {Iterable<string>} leaveOut token ids
 * @returns {AsyncGenerator<{found: {held: Held, logins: number}[], left: number}>} `left`: places not looked at yet
 */
export async function* others(network, lists, leaveOut) {
  const known = new Set(leaveOut);
  let left = lists.reduce((sum, { places }) => sum + places, 0);
  for (const { who, places } of lists) {
    for (let offset = 0; offset < places; offset += PAGE) {
      const [tokens] = await view(network, "PKPPermissions", LIST, ["uint", "bytes", "uint", "uint"], [who.type, who.id, offset, PAGE], [{ list: "uint" }]);
      const fresh = tokens.slice(0, PAGE).map(tokenIn).filter((/** @type {string} */ token) => !known.has(token));
      fresh.forEach((/** @type {string} */ token) => known.add(token));
      left -= Math.min(PAGE, places - offset);
      const told = await Promise.allSettled(fresh.map((/** @type {string} */ token) => described(network, who, token)));
      // One entry that cannot be read hides no other.
      yield { found: told.flatMap((one) => (one.status === "fulfilled" ? one.value : [])), left };
    }
  }
}

/** @param {Network} network @param {Identity} who @param {string} token @returns {Promise<{held: Held, logins: number}>} */
async function described(network, who, token) {
  const [key, logins] = await Promise.all([checks.look(network, token, who), checks.countMethods(network, token)]);
  return { held: { key, who, kind: "foreign", word: null }, logins };
}

/**
 * @param {{held: Held, logins: number}} one
 * @param {Identity[]} identities of the person
 * @returns {string} what it is, in words
 */
export function ownership({ held: { key }, logins }, identities) {
  const mine = identities.some((one) => one.type === 1 && one.id.toLowerCase() === key.owner?.toLowerCase());
  const owner = !key.owner ? "Nobody owns it." : key.owner === key.address ? "It owns itself." : mine ? "It belongs to your wallet." : `It belongs to ${key.owner}.`;
  const before = key.moves > 0 ? ` It has been given away ${key.moves === 1 ? "once" : `${key.moves} times`}: who had it before may have signed things that take what comes in later.` : "";
  const opened = logins > 1 ? ` ${logins} logins open it, yours among them.` : " Yours is the only login on it.";
  const manages = key.owner === key.address && key.scopes.includes(checks.MANAGE);
  return `${owner}${before}${opened}${manages ? " Your login may use and manage it." : " Your login may use it and not manage it."}`;
}
