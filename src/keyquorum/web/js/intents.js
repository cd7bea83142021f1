/**
 * What this page asks nodes to sign, with the digest and the summary that every node must come to: computed here, shown
 * before anything is asked for, and compared with the answer (spec/intents.md; the same as `keyquorum/intents`).
 * @module
 */
import { selector } from "./abi.js";
import { concat, fromHex, fromInteger, toHex, utf8 } from "./bytes.js";
import { checksum, keccak256 } from "./keccak.js";
import { unsigned } from "./rlp.js";
import { coins, fingerprint, oneLine, quoted } from "./show.js";

/** @typedef {{intent: Record<string, any>, digest: Uint8Array, summary: string, login?: boolean}} Read `login`: it opens a session somewhere */

const MAX_MESSAGE = 64 * 1024;
// What Python's \s matches, letter for letter.
const SPACE = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const SESSION = /keyquorum:session:([A-Za-z0-9_-]*)/;
const SIGN_IN = /^([^\n]{1,300}?) wants you to sign in with your Ethereum account:\n(0x[0-9a-fA-F]{40})\n/u;
const LIKE_SIGN_IN = new RegExp("sign +in +with +(your +)?ethereum".replaceAll("i", "[iıİ]").replaceAll(" ", SPACE), "iu");

/** @param {string} text @returns {string[]} the parts that say which login it is, or is made to look like */
function loginParts(text) {
  const session = SESSION.exec(text);
  if (session) return [`OPENS A KEYQUORUM SESSION for key ${quoted(session[1], 44)}`];
  const signIn = SIGN_IN.exec(text);
  if (signIn) return [`SIGNS IN to ${quoted(signIn[1])} as ${signIn[2]}`];
  return LIKE_SIGN_IN.test(text) ? ["LOOKS LIKE A LOGIN"] : [];
}

/** @param {string} text @returns {Read} EIP-191, version 0x45 */
export function message(text) {
  const content = utf8(text);
  if (new TextDecoder("utf-8", { ignoreBOM: true }).decode(content) !== text) throw new RangeError("the text holds half a character");
  if (content.length > MAX_MESSAGE) throw new RangeError(`a message has at most ${MAX_MESSAGE} bytes`);
  const digest = keccak256(concat(utf8(`\x19Ethereum Signed Message:\n${content.length}`), content));
  const login = loginParts(text);
  const summary = oneLine([...login, `signs the message ${quoted(text, login.length ? 40 : 100)}`], digest);
  return { intent: { kind: "evm-message", message: text }, digest, summary, login: login.length > 0 };
}

/** @param {import("./rlp.js").Transaction} wanted without data @returns {Read} */
export function transfer(wanted) {
  if (wanted.data !== "0x") throw new RangeError("this page sends coins, and calls nothing");
  const transaction = unsigned(wanted);
  const digest = keccak256(fromHex(transaction));
  const parts = [
    `sends ${coins(wanted.value, wanted.chainId)} to ${checksum(wanted.to)}`,
    `chain ${wanted.chainId}`,
    `nonce ${wanted.nonce}`,
    `max fee ${coins(wanted.gas * wanted.fee, wanted.chainId)}`,
  ];
  return { intent: { kind: "evm-transaction", transaction }, digest, summary: oneLine(parts, digest) };
}

// ---- changes of permissions -----------------------------------------------------------------------------------------

const DOMAIN = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
const CALL = "PermissionCall(uint256 tokenId,bytes call,uint256 nonce,uint256 deadline)";
const NAME = "Keyquorum PKPPermissions";

/** The calls that this page makes, by what nodes name them. */
export const CALLS = Object.freeze({
  addPermittedAuthMethod: "addPermittedAuthMethod(uint256,(uint256,bytes,bytes),uint256[])",
  removePermittedAuthMethod: "removePermittedAuthMethod(uint256,uint256,bytes)",
  setDelay: "setDelay(uint256,uint256)",
  cancelPendingChange: "cancelPendingChange(uint256,uint256)",
});

/** @typedef {keyof typeof CALLS} CallName */

/** @param {string} text */
const hashed = (text) => keccak256(utf8(text));

/** @param {bigint | string | number} value */
const word = (value) => fromInteger(BigInt(value), 32);

/**
 * @param {{chainId: number, contracts: Record<string, string>}} network
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
  domain: { name: NAME, version: "1", chainId: network.chainId, verifyingContract: network.contracts.PKPPermissions },
  message: { tokenId, call: data, nonce, deadline },
});

/**
 * @param {{chainId: number, contracts: Record<string, string>}} network
 * @param {string} tokenId
 * @param {string} data 0x, the call
 * @param {number} nonce
 * @param {number} deadline Unix seconds
 * @returns {Read}
 */
export function permissionCall(network, tokenId, data, nonce, deadline) {
  const at = checksum(network.contracts.PKPPermissions);
  const domain = keccak256(concat(hashed(DOMAIN), hashed(NAME), hashed("1"), word(network.chainId), word(at)));
  const struct = keccak256(concat(hashed(CALL), word(tokenId), keccak256(fromHex(data)), word(nonce), word(deadline)));
  const digest = keccak256(concat(new Uint8Array([0x19, 0x01]), domain, struct));
  const name = Object.entries(CALLS).find(([, signature]) => data.startsWith(selector(signature)))?.[0];
  const bytes = fromHex(data);
  const parts = [
    `${name ? `${name}: ` : ""}CHANGES WHO MAY USE A KEY at ${at}`,
    `signs "PermissionCall" for "${NAME}"`,
    `chain ${network.chainId}`,
    `contract ${at}`,
    `tokenId=${BigInt(tokenId)}`,
    `call=${bytes.length <= 32 ? data : `${toHex(bytes.slice(0, 16))}... (${bytes.length} bytes)`}`,
    `nonce=${nonce}`,
    `deadline=${deadline}`,
  ];
  const intent = { kind: "evm-typed-data", typed_data: typedData(network, tokenId, data, nonce, deadline) };
  return { intent, digest, summary: oneLine(parts, digest) };
}
