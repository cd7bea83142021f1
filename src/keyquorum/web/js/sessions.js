/**
 * Where a person is logged in: a list that the nodes tell, of which the chain says what has ended.
 * @module
 */
import { encode } from "./abi.js";
import { toHex, utf8 } from "./bytes.js";
import { BadAnswer } from "./checks.js";
import { newestNumber, view } from "./chain.js";
import { post, postSigned } from "./gateway.js";
import { keccak256 } from "./keccak.js";
import { request } from "./session.js";

/** @typedef {import("./chain.js").Network} Network */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {{id: string, methods: {type: number, id: string}[], issued_at: number, expires: number, revoked: boolean}} Listed */

const SHOWN = 50;
const STANDS_TRIES = 20;
const PAUSE = 500;
// What ends one session by its name leaves no time after which it would count again.
const FOR_EVER = 2n ** 64n - 1n;

/** @param {import("./abi.js").Type[]} types @param {any[]} values */
const mark = (types, values) => toHex(keccak256(encode(types, values)));

/** @param {string} text */
const asBytes = (text) => toHex(utf8(text));

/** @param {string} id 64 hex digits @returns {string} the session's name in the contract */
export const sessionMark = (id) => mark(["bytes", "uint"], [asBytes("session"), "0x" + id]);

/** @param {{type: number, id: string}} identity @returns {string} its name in the contract */
export const identityMark = ({ type, id }) => mark(["bytes", "uint", "bytes"], [asBytes("identity"), type, id]);

/** @param {any} one */
const isListed = (one) =>
  /^[0-9a-f]{64}$/.test(one?.id) &&
  Array.isArray(one.methods) && one.methods.length > 0 && one.methods.length <= 8 &&
  one.methods.every((/** @type {any} */ each) => Number.isInteger(each?.type) && each.type > 0 && /^0x([0-9a-f]{2}){1,64}$/.test(each?.id)) &&
  Number.isInteger(one.issued_at) && Number.isInteger(one.expires);

/** @param {Network} network @param {string[]} marks @returns {Promise<bigint[]>} up to when what bears them has ended */
const endedBefore = async (network, marks) => (await view(network, "Sessions", "revokedBefore(bytes32[])", [{ list: "uint" }], [marks], [{ list: "uint" }]))[0];

/**
 * @param {Network} network
 * @param {Session} session
 * @returns {Promise<{shown: Listed[], more: number}>} the newest, `revoked` as the chain has it; what names no session is left out
 */
export async function list(network, session) {
  const told = (await post("/v1/sessions/list", await request(session, "sessions", "*", {})([]))).sessions;
  const found = Array.isArray(told) ? told.filter(isListed) : [];
  const shown = found.slice(0, SHOWN);
  const marks = shown.map((one) => [sessionMark(one.id), ...one.methods.map(identityMark)]);
  const times = shown.length ? await endedBefore(network, marks.flat()) : [];
  let at = 0;
  for (const one of shown) {
    const [itself, ...identities] = times.slice(at, at + 1 + one.methods.length).map((time) => time >= BigInt(one.issued_at));
    one.revoked = itself || identities.every(Boolean);
    at += 1 + one.methods.length;
  }
  return { shown, more: found.length - shown.length };
}

/**
 * End a session; the chain must know of it.
 * @param {Network} network
 * @param {Session} session
 * @param {string} id
 * @returns {Promise<number>} a block in which it has ended
 */
export async function end(network, session, id) {
  await postSigned(network, "/v1/revocations", request(session, "revoke", "*", { session: id }));
  for (let tries = 0; tries < STANDS_TRIES; tries++) {
    const block = await newestNumber(network.rpc);
    const [time] = await endedBefore(network, [sessionMark(id)]);
    if (time === FOR_EVER) return block;
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
  throw new BadAnswer("the gateway says that it is ended, and the chain does not know of it");
}
