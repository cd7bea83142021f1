/**
 * Session keys: P-256, made in this browser for one login, and never leaving it. And what they sign.
 * @module
 */
import { fromBase64url, random, toBase64url, toHex } from "./bytes.js";
import { claimsOf, sign } from "./jws.js";
import { challengeOf, thumbprint } from "./statement.js";

/** @typedef {import("./statement.js").Jwk} Jwk */
/**
 * @typedef {object} Session
 * @property {CryptoKey} key private, not extractable
 * @property {Jwk} jwk its public half
 * @property {string} [certificate] the network's word on whose it is; none before the login is done
 * @property {Record<string, string>} [passkeys] for each passkey among its identities, by id, what the chain stores of it
 */

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256" };
const LIFETIME = 55;
const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** @returns {Promise<Session>} */
export async function newSession() {
  const pair = /** @type {CryptoKeyPair} */ (await crypto.subtle.generateKey(ALGORITHM, false, ["sign"]));
  const { x, y } = await crypto.subtle.exportKey("jwk", pair.publicKey);
  return { key: pair.privateKey, jwk: { crv: "P-256", kty: "EC", x: x ?? "", y: y ?? "" } };
}

/** @param {Session} session */
export const claims = (session) => claimsOf(session.certificate ?? "");

/** @param {Session | undefined} session */
export const isOpen = (session) => !!session?.certificate && claims(session).exp > Date.now() / 1000;

/**
 * A request (spec/auth.md, section 5), which can be signed again with other runs: its id stays.
 * @param {Session} session
 * @param {"sign" | "mint" | "revoke" | "sessions"} kind
 * @param {string} key token id; "*" where the kind names none
 * @param {object} intent
 * @returns {(runs: number[][]) => Promise<{certificate: string, request: string}>} what nodes and gateway take
 */
export function request(session, kind, key, intent) {
  const id = toBase64url(random(18));
  const certificate = session.certificate ?? "";
  const { iss: network } = claims(session);
  return async (runs) => ({ certificate, request: await signRequest(session, { network, id, kind, key, intent, runs }) });
}

/**
 * A login: signed by the key that its statement is for, so that nobody else can do anything with it.
 * @param {Session} session
 * @param {import("./statement.js").Statement} statement
 * @param {string} method
 * @param {object} proof
 * @param {string} [certificate] to be stepped up
 * @returns {(runs: number[][]) => Promise<{request: string}>}
 */
export function loginRequest(session, statement, method, proof, certificate) {
  const intent = { statement, method, proof, ...(certificate ? { certificate } : {}) };
  return async (runs) => {
    const id = toHex(await challengeOf(statement)).slice(2);
    return { request: await signRequest(session, { network: statement.network, id, kind: "login", key: "*", intent, runs }) };
  };
}

/** @param {Session} session @param {object} payload all but the expiry */
const signRequest = (session, payload) =>
  sign(session.key, "keyquorum-request+jws", { ...payload, exp: Math.floor(Date.now() / 1000) + LIFETIME });

/**
 * @param {Jwk} jwk
 * @returns {Promise<string>} 12 characters that the message with a code shows as well: 60 bits of the key's name
 */
export async function fingerprint(jwk) {
  const digest = fromBase64url(await thumbprint(jwk));
  const bits = Array.from(digest.slice(0, 8), (byte) => byte.toString(2).padStart(8, "0")).join("");
  const letters = Array.from({ length: 12 }, (_, i) => CROCKFORD[parseInt(bits.slice(5 * i, 5 * i + 5), 2)]);
  return [0, 4, 8].map((start) => letters.slice(start, start + 4).join("")).join("-");
}
