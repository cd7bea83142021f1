/**
 * Codes by e-mail or SMS: each code service sends one of its own, the person types them here, and this session's key
 * signs that it is the one that answers (`auth/code_assertion.py`). A code is worth nothing in any other session.
 * @module
 */
import { toBase64url } from "./bytes.js";
import { get, post, safeUrl } from "./gateway.js";
import { claimsOf, sign } from "./jws.js";
import { Tag, taggedHash } from "./transcript.js";

/** @typedef {{service: string, id: string, issuer: string, digits: number, name: string}} Asked one code that was sent */

/**
 * @param {string[]} services
 * @param {"email" | "sms"} channel
 * @param {string} address
 * @param {import("./statement.js").Statement} statement
 * @returns {Promise<Asked[]>} the codes that are on their way; throws when no service sends one
 */
export async function send(services, channel, address, statement) {
  const results = await Promise.allSettled(services.map((service) => sendOne(service, channel, address, statement)));
  const sent = results.flatMap((result) => (result.status === "fulfilled" && result.value ? [result.value] : []));
  const failure = results.find((result) => result.status === "rejected");
  if (!sent.length) throw failure?.reason ?? new Error("no service of this network sends such codes");
  return sent;
}

/** @param {string} service @param {string} channel @param {string} address @param {object} statement */
async function sendOne(service, channel, address, statement) {
  const { channels, name } = await get(`${safeUrl(service)}/v1/issuer`);
  if (!channels.includes(channel)) return undefined;
  return { service, name, ...(await post(`${service}/v1/codes`, { channel, address, statement })) };
}

/**
 * @param {Asked} asked
 * @param {string} code
 * @param {CryptoKey} key the session's
 * @returns {Promise<string>} the service's assertion
 */
export async function answer({ service, id, issuer }, code, key) {
  const hash = toBase64url(await taggedHash(Tag.CODE_ANSWER, issuer, id, code));
  const signature = await sign(key, "keyquorum-code-answer+jws", { issuer, id, code: hash });
  return (await post(`${service}/v1/codes/${id}/answer`, { code, session_signature: signature })).assertion;
}

/**
 * @param {string[]} assertions
 * @returns {{address: string, assertions: string[]}} the proof of methods `email` and `sms`
 */
export const proof = (assertions) => ({ address: claimsOf(assertions[0]).address, assertions });
