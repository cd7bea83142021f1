/**
 * Compact JWS with ES256, in the form that the nodes read (`auth/jws.py`): header of exactly alg and typ.
 * @module
 */
import { fromBase64url, toBase64url, utf8 } from "./bytes.js";

/**
 * @param {any} value of plain objects, arrays, strings, whole numbers, booleans, null
 * @returns {string} the one JSON text: sorted members, no spaces, ASCII
 */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const members = Object.keys(value).sort().map((name) => `${canonical(name)}:${canonical(value[name])}`);
    return `{${members.join(",")}}`;
  }
  if (typeof value === "number" && !Number.isSafeInteger(value)) throw new TypeError("only whole numbers are signed");
  const text = JSON.stringify(value);
  if (text === undefined) throw new TypeError("this has no JSON form");
  return text.replace(/[\u007f-\uffff]/g, (letter) => "\\u" + letter.charCodeAt(0).toString(16).padStart(4, "0"));
}

/**
 * @param {CryptoKey} key P-256, private
 * @param {string} type of the token
 * @param {object} claims
 * @returns {Promise<string>}
 */
export async function sign(key, type, claims) {
  const input = [{ alg: "ES256", typ: type }, claims].map((part) => toBase64url(utf8(canonical(part)))).join(".");
  const signature = await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, key, utf8(input));
  return `${input}.${toBase64url(signature)}`;
}

/**
 * @param {string} token
 * @returns {any} its claims, not verified: to be shown, never to be believed
 */
export const claimsOf = (token) => JSON.parse(new TextDecoder().decode(fromBase64url(token.split(".")[1])));
