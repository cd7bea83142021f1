/**
 * Tagged, typed, length-prefixed hashing: the same bytes as `algebra/transcript.py`, so that page and nodes hash the
 * same statement to the same challenge.
 *
 * Each value becomes its type (b bytes, s text, i number, l list), the length of its content in 8 bytes, its content.
 * @module
 */
import { concat, fromInteger, sha256, utf8 } from "./bytes.js";

/** @typedef {Uint8Array | string | number | bigint | ReadonlyArray<any>} Hashable */

export const Tag = Object.freeze({
  LOGIN_CHALLENGE: "keyquorum/1/auth/login-challenge",
  PASSKEY_ID: "keyquorum/1/auth/passkey-id",
  BEARER_DIGEST: "keyquorum/1/auth/token-digest",
  BEARER_BINDING: "keyquorum/1/auth/token-binding",
  BEARER_RECEIPT: "keyquorum/1/auth/token-receipt",
  CODE_ANSWER: "keyquorum/1/auth/code-answer",
});

/**
 * @param {string} type one letter
 * @param {Uint8Array} content
 */
const framed = (type, content) => concat(utf8(type), fromInteger(BigInt(content.length), 8), content);

/**
 * @param {Hashable} value
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function encode(value) {
  if (value instanceof Uint8Array) return framed("b", value);
  if (typeof value === "string") return framed("s", utf8(value));
  if (Array.isArray(value)) return framed("l", concat(...value.map(encode)));
  if (typeof value === "bigint" || Number.isSafeInteger(value)) return framed("i", fromInteger(BigInt(/** @type {any} */ (value))));
  throw new TypeError("only bytes, text, whole numbers and lists of them are hashed");
}

/**
 * @param {string} tag one of `Tag`
 * @param {...Hashable} values
 * @returns {Promise<Uint8Array<ArrayBuffer>>} 32 bytes
 */
export const taggedHash = (tag, ...values) => sha256(concat(encode(tag), ...values.map(encode)));
