/**
 * Who may use a key: read from the permission contract; changed by the key itself, which owns itself. It signs the change
 * as typed data (EIP-712, `PermissionCall`), the gateway delivers it and pays, and the chain says whether it really did.
 * @module
 */
import { call } from "./abi.js";
import { FULL_SCOPES, didCall } from "./checks.js";
import { Reverted, rpc, view } from "./chain.js";
import { post } from "./gateway.js";
import { CALLS, permissionCall } from "./intents.js";
import { sign } from "./keys.js";

/** @typedef {import("./keys.js").Key} Key */
/** @typedef {import("./chain.js").Network} Network */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./checks.js").Identity} Identity */

export const METHOD_NAMES = Object.freeze(/** @type {Record<number, string>} */ ({
  1: "wallet",
  2: "program",
  3: "passkey",
  4: "Discord",
  6: "Google or another provider",
  20: "e-mail",
  21: "phone",
}));
/** Kinds of announced changes, in the contract's order. */
export const KINDS = Object.freeze(["a new login", "a new right of a login", "a shorter waiting time", "giving the key away", "giving the key up for ever"]);
const CALL_SECONDS = 600;
const LAST = "this is your last way into this key: without it nobody could ever use the key again, or what is on it. Add another login first";
const EXECUTE = "execute(uint256,bytes,uint256,uint256,bytes)";

/** @param {Identity} identity a name to look at */
export const nameOf = ({ type, id }) => `${METHOD_NAMES[type] ?? `method ${type}`} ${id.slice(0, 10)}…`;

/** @typedef {{key: Key, data: string}} Change a call of the contract that waits for a yes */

/** @param {Key} key @param {keyof typeof CALLS} name @param {import("./abi.js").Type[]} types @param {any[]} values @returns {Change} */
const change = (key, name, types, values) => ({ key, data: call(CALLS[name], ["uint", ...types], [key.token_id, ...values]) });

/** @param {Key} key @param {Identity} identity @param {string} [userPublicKey] 0x */
export const adding = (key, { type, id }, userPublicKey = "0x") =>
  change(key, "addPermittedAuthMethod", [["uint", "bytes", "bytes"], { list: "uint" }], [[type, id, userPublicKey], FULL_SCOPES]);

/** @param {Key} key @param {Identity} identity */
export const removing = (key, { type, id }) => change(key, "removePermittedAuthMethod", ["uint", "bytes"], [type, id]);

/** @param {Key} key @param {number} seconds */
export const delaying = (key, seconds) => change(key, "setDelay", ["uint"], [seconds]);

/** @param {Key} key @param {number} changeId */
export const cancelling = (key, changeId) => change(key, "cancelPendingChange", ["uint"], [changeId]);

/**
 * Let the contract say whether it would make a change, before anybody is asked or anything is signed.
 * @param {Network} network
 * @param {Change} change
 */
export async function tryOut(network, { key, data }) {
  try {
    await rpc(network.rpc, "eth_call", { from: key.address, to: network.contracts.PKPPermissions, data }, "latest");
  } catch (error) {
    throw error instanceof Reverted && error.is("LastManager(uint256)") ? new Error(LAST) : error;
  }
}

/**
 * Make a change.
 * @param {Network} network
 * @param {Session} session
 * @param {Change} change
 * @returns {Promise<number>} the number of the block in which it was made
 */
export async function make(network, session, { key, data }) {
  const [nonce] = await view(network, "PKPPermissions", "nonces(uint256)", ["uint"], [key.token_id], ["uint"]);
  const deadline = Math.floor(Date.now() / 1000) + CALL_SECONDS;
  const { compact } = await sign(network, session, key, permissionCall(network, key.token_id, data, Number(nonce), deadline));
  const asked = { key: key.token_id, call: data, nonce: Number(nonce), deadline, signature: compact };
  const { transaction } = await post("/v1/permissions", asked);
  const whole = call(EXECUTE, ["uint", "bytes", "uint", "uint", "bytes"], [key.token_id, data, nonce, deadline, compact]);
  return didCall(network, transaction, "PKPPermissions", whole);
}

/**
 * @typedef {{id: number, kind: number, activeAt: number, identity?: Identity, delay: number}} Pending
 */

/**
 * @param {Network} network
 * @param {string} tokenId
 * @returns {Promise<{delay: number, pending: Pending[]}>} how long loosening changes wait, and which wait now
 */
export async function waitingOf(network, tokenId) {
  const form = ["uint", "uint", "uint", "uint", "bytes", "bytes", "uint", "uint", "uint"];
  const [[delay], [changes]] = await Promise.all([
    view(network, "PKPPermissions", "delayOf(uint256)", ["uint"], [tokenId], ["uint"]),
    view(network, "PKPPermissions", "getPendingChanges(uint256)", ["uint"], [tokenId], [{ list: form }]),
  ]);
  const pending = changes.map((/** @type {any[]} */ [id, kind, activeAt, type, name, , , shorter]) => ({
    id: Number(id),
    kind: Number(kind),
    activeAt: Number(activeAt),
    identity: type ? { type: Number(type), id: name } : undefined,
    delay: Number(shorter),
  }));
  return { delay: Number(delay), pending };
}
