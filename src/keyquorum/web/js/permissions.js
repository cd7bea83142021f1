/**
 * Who may use a key: read from the permission contract; changed by the key itself, which owns itself. It signs the change
 * as typed data (EIP-712, `PermissionCall`), the gateway delivers it and pays.
 * @module
 */
import { call, decode } from "./abi.js";
import { chain, post } from "./gateway.js";
import { sign } from "./keys.js";

/** @typedef {import("./keys.js").Key} Key */
/** @typedef {import("./keys.js").Network} Network */
/** @typedef {{type: number, id: string}} Identity as the contract and certificates name it */

export const METHOD_NAMES = Object.freeze({
  1: "wallet",
  2: "program",
  3: "passkey",
  4: "Discord",
  6: "Google or another provider",
  20: "e-mail",
  21: "phone",
});
/** Signs everything that can be shown, and manages the key: what a login gets that is to open the key like the others. */
export const FULL_SCOPES = Object.freeze([1, 6]);
const CALL_SECONDS = 600;
const PAGE = 200;
const TOGETHER = 4;

/**
 * @param {Network} network
 * @param {string} data 0x
 * @param {import("./abi.js").Type[]} types of the answer
 */
async function view(network, data, types) {
  const answer = await chain(network.rpc, "eth_call", { to: network.contracts.PKPPermissions, data }, "latest");
  return decode(types, answer);
}

/**
 * Read a list that may have grown long, a page at a time and a few at once, as strangers can add to some.
 * @template T
 * @param {Network} network
 * @param {{count: string, page: string}} views
 * @param {import("./abi.js").Type[]} types of the arguments
 * @param {any[]} values
 * @param {import("./abi.js").Type} list type of the first result of a page
 * @returns {Promise<T[]>}
 */
async function pages(network, { count, page }, types, values, list) {
  const [places] = await view(network, call(count, types, values), ["uint"]);
  const read = async (/** @type {number} */ offset) => {
    const data = call(page, [...types, "uint", "uint"], [...values, offset, PAGE]);
    return (await view(network, data, [list]))[0];
  };
  const found = [];
  for (let offset = 0; offset < Number(places); offset += PAGE * TOGETHER) {
    const offsets = Array.from({ length: TOGETHER }, (_, i) => offset + i * PAGE).filter((each) => each < Number(places));
    found.push(...(await Promise.all(offsets.map(read))).flat());
  }
  return found;
}

/** @param {Network} network @param {string} tokenId @returns {Promise<Identity[]>} what is active now */
export async function methodsOf(network, tokenId) {
  const views = {
    count: "countPermittedAuthMethods(uint256)",
    page: "getPermittedAuthMethodsPage(uint256,uint256,uint256)",
  };
  const found = await pages(network, views, ["uint"], [tokenId], { list: ["uint", "bytes", "bytes"] });
  return found.map((/** @type {[bigint, string]} */ [type, id]) => ({ type: Number(type), id }));
}

/**
 * @param {Network} network
 * @param {Identity} identity
 * @returns {Promise<string[]>} the token ids on which it is permitted: also those on which strangers permitted it
 */
export async function keysOf(network, { type, id }) {
  const views = {
    count: "countTokenIdsForAuthMethod(uint256,bytes)",
    page: "getTokenIdsForAuthMethodPage(uint256,bytes,uint256,uint256)",
  };
  const found = await pages(network, views, ["uint", "bytes"], [type, id], { list: "uint" });
  return found.map((/** @type {bigint} */ token) => "0x" + token.toString(16).padStart(64, "0"));
}

/**
 * @param {Network} network
 * @param {import("./session.js").Session} session
 * @param {Key} key
 * @param {Identity & {userPublicKey?: string}} identity
 */
export const addMethod = (network, session, key, { type, id, userPublicKey = "0x" }) =>
  change(network, session, key, call(
    "addPermittedAuthMethod(uint256,(uint256,bytes,bytes),uint256[])",
    ["uint", ["uint", "bytes", "bytes"], { list: "uint" }],
    [key.token_id, [type, id, userPublicKey], FULL_SCOPES],
  ));

/**
 * @param {Network} network
 * @param {import("./session.js").Session} session
 * @param {Key} key
 * @param {Identity} identity
 */
export const removeMethod = (network, session, key, { type, id }) =>
  change(network, session, key, call("removePermittedAuthMethod(uint256,uint256,bytes)", ["uint", "uint", "bytes"], [key.token_id, type, id]));

/**
 * @param {Network} network
 * @param {string} tokenId
 * @param {string} data 0x, the call
 * @param {number} nonce
 * @param {number} deadline Unix seconds
 */
export const typedData = (network, tokenId, data, nonce, deadline) => ({
  types: {
    EIP712Domain: [
      { name: "name", type: "string" },
      { name: "version", type: "string" },
      { name: "chainId", type: "uint256" },
      { name: "verifyingContract", type: "address" },
    ],
    PermissionCall: [
      { name: "tokenId", type: "uint256" },
      { name: "call", type: "bytes" },
      { name: "nonce", type: "uint256" },
      { name: "deadline", type: "uint256" },
    ],
  },
  primaryType: "PermissionCall",
  domain: {
    name: "Keyquorum PKPPermissions",
    version: "1",
    chainId: network.chainId,
    verifyingContract: network.contracts.PKPPermissions,
  },
  message: { tokenId, call: data, nonce, deadline },
});

/**
 * @param {Network} network
 * @param {import("./session.js").Session} session
 * @param {Key} key
 * @param {string} data 0x, the call
 */
async function change(network, session, key, data) {
  const [nonce] = await view(network, call("nonces(uint256)", ["uint"], [key.token_id]), ["uint"]);
  const deadline = Math.floor(Date.now() / 1000) + CALL_SECONDS;
  const typed = typedData(network, key.token_id, data, Number(nonce), deadline);
  const { signature } = await sign(session, key, { kind: "evm-typed-data", typed_data: typed });
  return post("/v1/permissions", { key: key.token_id, call: data, nonce: Number(nonce), deadline, signature: signature.compact });
}
