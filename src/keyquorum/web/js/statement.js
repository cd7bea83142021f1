/**
 * The login statement (spec/auth.md, section 1): what the person asks for. Its hash is the challenge of every method.
 * @module
 */
import { fromBase64url, fromHex, random, sha256, toBase64url, toHex, utf8 } from "./bytes.js";
import { Tag, taggedHash } from "./transcript.js";

/** @typedef {{crv: string, kty: string, x: string, y: string}} Jwk a session key's public half */
/**
 * @typedef {object} Statement
 * @property {string} network
 * @property {Jwk} session
 * @property {string[]} keys token ids, or only "*"
 * @property {number[]} scopes ascending
 * @property {number} expires Unix seconds
 * @property {string} nonce 32 hex digits
 * @property {string} block 0x and 64 hex digits
 * @property {number} uses signatures that the session may ask for
 */

/** What the scopes say in the sentence that a wallet shows; the words of `auth/scopes.py`. */
export const SCOPE_WORDS = Object.freeze({
  1: "sign any message, transaction or typed data",
  2: "sign personal messages",
  3: "sign transactions",
  4: "sign typed data",
  5: "sign RAW DIGESTS, whose meaning nobody can show",
  6: "CHANGE WHO MAY USE the keys",
  7: "decrypt what was encrypted to the keys",
  8: "TAKE THE KEYS OUT of the network",
});

/**
 * @param {Omit<Statement, "nonce">} wanted
 * @returns {Statement} with a fresh nonce
 */
export const newStatement = (wanted) => ({ ...wanted, nonce: toHex(random(16)).slice(2) });

/**
 * @param {Statement} statement
 * @returns {Promise<Uint8Array<ArrayBuffer>>} 32 bytes
 */
export const challengeOf = (statement) =>
  taggedHash(
    Tag.LOGIN_CHALLENGE,
    statement.network,
    fromBase64url(statement.session.x),
    fromBase64url(statement.session.y),
    statement.keys,
    statement.scopes,
    statement.expires,
    fromHex("0x" + statement.nonce),
    fromHex(statement.block),
    statement.uses,
  );

/**
 * @param {Jwk} jwk
 * @returns {Promise<string>} the key's name, RFC 7638
 */
export async function thumbprint(jwk) {
  const { crv, kty, x, y } = jwk;
  return toBase64url(await sha256(utf8(JSON.stringify({ crv, kty, x, y }))));
}

/** @param {Statement} statement */
export const sessionUri = async (statement) => `keyquorum:session:${await thumbprint(statement.session)}`;

/** @param {Statement} statement */
export const chainIdOf = (statement) => statement.network.split(":")[1];

/** @param {string[]} items */
const listing = (items) => (items.length === 1 ? items[0] : `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`);

/**
 * @param {Statement} statement
 * @returns {string} the sentence that a node demands in a wallet's message (`siwe.grant_line`)
 */
export function grantLine(statement) {
  if (!statement.scopes.length) return "Open a Keyquorum session that only tells who I am. It may sign nothing.";
  const scopes = listing(statement.scopes.map((number) => SCOPE_WORDS[/** @type {1} */ (number)]));
  const { keys } = statement;
  const which = keys[0] === "*" ? "EVERY key that this account controls" : (keys.length === 1 ? "the key " : "the keys ") + listing(keys);
  return `Open a Keyquorum session that may ${scopes}, with ${which}.`;
}
