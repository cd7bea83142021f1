/**
 * What others say was done, looked at before it counts: the same checks as the Python client's (`client/checks.py`,
 * `signup.py`, `logins.py`). A gateway's "done" is a transaction, a signature or a certificate, and each is compared with
 * what was asked for. docs/threat-model.md lists them.
 * @module
 */
import { call, topic } from "./abi.js";
import { equal, fromBase64url, fromHex, sha256, toHex, toInteger, utf8 } from "./bytes.js";
import { finality, receiptOf, rpc, tokenIn, addressIn, view } from "./chain.js";
import { canonical } from "./jws.js";
import { keccak256 } from "./keccak.js";
import { addressOf, recover, tokenOf, verify } from "./secp256k1.js";
import { challengeOf, thumbprint } from "./statement.js";

/** @typedef {import("./chain.js").Network} Network */
/** @typedef {{type: number, id: string}} Identity as the contract and certificates name it */
/** @typedef {{token_id: string, address: string}} Key */

/** Signs everything that can be shown, and manages the key: what a login gets that is to open the key like the others. */
export const FULL_SCOPES = Object.freeze([1, 6]);
export const MANAGE = 6;
const NO_LABEL = "0x" + "00".repeat(32);
const RECEIPT_SECONDS = 10;

/** An answer that does not hold: nothing was shown to be done. */
export class BadAnswer extends Error {}

/** @param {unknown} holds @param {string} otherwise */
function must(holds, otherwise) {
  if (!holds) throw new BadAnswer(otherwise);
}

/** @param {unknown} value @param {number} digits */
const isHex = (value, digits) => typeof value === "string" && new RegExp(`^0x[0-9a-fA-F]{${digits}}$`).test(value);

/** @param {Identity} one @param {Identity} other */
export const same = (one, other) => one.type === other.type && one.id.toLowerCase() === other.id.toLowerCase();

// ---- signatures -----------------------------------------------------------------------------------------------------

/**
 * @param {any} answer of `POST /v1/sign`
 * @param {import("./intents.js").Read} read what was asked for
 * @param {string} address of the key
 * @returns {{r: string, s: string, v: number, compact: string}}
 */
export function signature(answer, { digest, summary }, address) {
  const { r, s, v } = answer?.signature ?? {};
  must(isHex(r, 64) && isHex(s, 64) && Number.isInteger(v), "the gateway's signature is none");
  must(answer.summary === summary, "the nodes describe what they signed in other words than were shown");
  let signer = "";
  try {
    signer = addressOf(recover(digest, BigInt(r), BigInt(s), v));
  } catch {
    // Told below, like a signature by anybody else.
  }
  must(signer === address, "the gateway's signature is not one of this key over what was shown");
  return { r, s, v, compact: r + s.slice(2) + (27 + (v & 1)).toString(16) };
}

// ---- transactions ---------------------------------------------------------------------------------------------------

/**
 * @param {Network} network
 * @param {any} hash that is said to be an executed transaction
 * @returns {Promise<any>} its receipt
 */
async function executed(network, hash) {
  must(isHex(hash, 64), "what should name a transaction is no hash");
  const receipt = await receiptOf(network.rpc, hash.toLowerCase(), RECEIPT_SECONDS);
  must(receipt, "it is said to be done, and the chain does not know the transaction");
  must(receipt.status === "0x1", "it is said to be done, and the transaction failed");
  return receipt;
}

/**
 * @param {Network} network
 * @param {any} hash that the gateway names
 * @param {string} to a contract of the network, by name
 * @param {string} data 0x, the call that was asked for
 * @returns {Promise<number>} the number of the block in which exactly this call was executed
 */
export async function didCall(network, hash, to, data) {
  const receipt = await executed(network, hash);
  const sent = await rpc(network.rpc, "eth_getTransactionByHash", hash.toLowerCase());
  const is = `${sent?.to}`.toLowerCase() === network.contracts[to].toLowerCase() && `${sent?.input}`.toLowerCase() === data;
  must(is, "it is said to be done, and the transaction did something else");
  return Number(receipt.blockNumber);
}

/** @param {Network} network @param {any} hash @param {string} tokenId */
async function didMint(network, hash, tokenId) {
  const { logs } = await executed(network, hash);
  const minted = topic("PKPMinted(uint256,bytes)");
  const is = logs.some((/** @type {any} */ log) => log.address.toLowerCase() === network.contracts.PKPNFT.toLowerCase() && log.topics[0] === minted && log.topics[1] === tokenId);
  must(is, "the transaction did not mint the key that is called new");
}

// ---- keys -----------------------------------------------------------------------------------------------------------

/**
 * @typedef {object} Seen a key as the chain has it
 * @property {string} token_id
 * @property {string} address
 * @property {string | undefined} owner an address; undefined: nobody
 * @property {boolean} permitted whether the login that was asked about may use it
 * @property {number[]} scopes of that login
 * @property {number} moves how often it was given away
 */

/** @param {bigint} bits */
const numbersIn = (bits) => Array.from({ length: 256 }, (_, i) => i).filter((i) => (bits >> BigInt(i)) & 1n);

/**
 * @param {Network} network
 * @param {string} tokenId
 * @param {Identity} who
 * @returns {Promise<Seen>} throws when there is no such key: a token id is the hash of its key
 */
export async function look(network, tokenId, { type, id }) {
  const results = ["uint", "uint", "uint", "uint", "bytes"];
  const told = await view(network, "PKPPermissions", "authorisation(uint256,uint256,bytes)", ["uint", "uint", "bytes"], [tokenId, type, id], results);
  const [owner, permitted, scopes, epoch, key] = told;
  must(key.length === 132 && tokenOf(fromHex(key)) === tokenId, "the chain names no such key");
  return {
    token_id: tokenId,
    address: addressOf(fromHex(key)),
    owner: owner ? addressIn(owner) : undefined,
    permitted: permitted === 1n,
    scopes: numbersIn(scopes),
    moves: Number(epoch) - 1,
  };
}

/** @param {string | null} word that names one more key of a login */
export const labelOf = (word) => (word === null ? NO_LABEL : toHex(keccak256(utf8(word))));

/**
 * @param {Network} network
 * @param {string} relay who pays for keys
 * @param {Identity} who
 * @param {string | null} word
 * @param {string} [block]
 * @returns {Promise<string | undefined>} the token that was minted for exactly this login, and has never moved since
 */
export async function keyFor(network, relay, { type, id }, word, block) {
  const [found] = await view(network, "PKPHelper", "keyFor(address,uint256,bytes,bytes32)", ["uint", "uint", "bytes", "uint"], [relay, type, id, labelOf(word)], ["uint"], block);
  return found ? tokenIn(found) : undefined;
}

/**
 * Whether a key is this login's own: minted for it alone, never moved, owned by itself, and managed by the login.
 * @param {Network} network
 * @param {string} relay
 * @param {Identity} who
 * @param {string | null} word
 * @param {string} tokenId
 * @returns {Promise<Seen>} throws `BadAnswer` when it is not
 */
export async function ownKey(network, relay, who, word, tokenId) {
  const [token, seen] = await Promise.all([keyFor(network, relay, who, word), look(network, tokenId, who)]);
  must(token === tokenId && seen.owner === seen.address && seen.moves === 0, "the gateway's key was not made for this login, or not for it alone");
  must(seen.permitted, "the gateway's key does not let this login in");
  must(seen.scopes.includes(MANAGE), "your login may no longer manage the key that was made for it");
  return seen;
}

/**
 * Check what a gateway says about the key of a login.
 * @param {Network} network
 * @param {Identity} who
 * @param {string | null} word
 * @param {string} userPublicKey 0x
 * @param {any} answer of `POST /v1/keys`
 * @returns {Promise<Seen>}
 */
export async function mintedKey(network, who, word, userPublicKey, answer) {
  must(isHex(answer?.token_id, 64), "what should name a key is no token id");
  must(isHex(answer.relay, 40), "the gateway does not say who paid for the key");
  const tokenId = answer.token_id.toLowerCase();
  const isNew = answer.transaction !== null && answer.transaction !== undefined;
  if (isNew) await didMint(network, answer.transaction, tokenId);
  const seen = await ownKey(network, answer.relay, who, word, tokenId);
  if (isNew) {
    const { methods, places } = await methodsOf(network, tokenId);
    const only = places === 1 && methods.length === 1 && same(methods[0], who) && methods[0].userPublicKey === userPublicKey;
    must(only && `${seen.scopes}` === `${FULL_SCOPES}`, "the gateway's new key permits something else than this login with the usual scopes");
  }
  return seen;
}

/** @param {Network} network @param {string} tokenId @returns {Promise<number>} places of its list of logins; some may not count now */
export const countMethods = async (network, tokenId) =>
  Number((await view(network, "PKPPermissions", "countPermittedAuthMethods(uint256)", ["uint"], [tokenId], ["uint"]))[0]);

/**
 * @param {Network} network
 * @param {string} tokenId
 * @param {number} [offset]
 * @param {number} [limit]
 * @returns {Promise<{methods: (Identity & {userPublicKey: string, scopes: number[]})[], places: number}>} the logins at these places that count now
 */
export async function methodsOf(network, tokenId, offset = 0, limit = 50) {
  const [places, [methods, scopes]] = await Promise.all([
    countMethods(network, tokenId),
    view(network, "PKPPermissions", "getPermittedAuthMethodsPage(uint256,uint256,uint256)", ["uint", "uint", "uint"], [tokenId, offset, limit], [{ list: ["uint", "bytes", "bytes"] }, { list: "uint" }]),
  ]);
  const read = ([type, id, userPublicKey], /** @type {number} */ i) => ({ type: Number(type), id, userPublicKey, scopes: numbersIn(scopes[i]) });
  return { methods: methods.map(read), places };
}

/**
 * Wait until a mint cannot be undone: until then the key may still become another's.
 * @param {Network} network
 * @param {string} relay
 * @param {Identity} who
 * @param {string | null} word
 * @param {string} tokenId
 * @param {number} [seconds]
 */
export async function untilFinal(network, relay, who, word, tokenId, seconds = 1200) {
  const give = Date.now() + 1000 * seconds;
  for (let pause = 250; (await keyFor(network, relay, who, word, finality(network))) !== tokenId; pause = Math.min(5000, 1.5 * pause)) {
    if (Date.now() > give) throw new Error("your key is not final on the chain yet: log in again later, it will be the same one");
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

// ---- certificates ---------------------------------------------------------------------------------------------------

/** The types of identity that the methods prove. */
const TYPES = Object.freeze(/** @type {Record<string, number>} */ ({ siwe: 1, passkey: 3, discord: 4, oidc: 6, email: 20, sms: 21 }));

/**
 * Check that a certificate is the network's, for exactly this statement and whoever logged in.
 * @param {Network} network
 * @param {string} token
 * @param {import("./statement.js").Statement} statement
 * @param {string} method
 * @param {string | undefined} id 0x, the identity where it is known
 * @param {any} [old] claims of the certificate that is stepped up
 */
export async function certificate(network, token, statement, method, id, old) {
  const parts = `${token}`.split(".");
  must(parts.length === 3, "the gateway's certificate is none");
  /** @type {any} */
  let claims;
  try {
    claims = JSON.parse(new TextDecoder().decode(fromBase64url(parts[1])));
    const compact = fromBase64url(parts[2]);
    const digest = await sha256(utf8(`${parts[0]}.${parts[1]}`));
    must(compact.length === 64 && verify(digest, toInteger(compact.slice(0, 32)), toInteger(compact.slice(32)), network.networkKey), "");
  } catch {
    throw new BadAnswer("the certificate is not signed by the network");
  }
  const wanted = {
    iss: network.network,
    sub: await thumbprint(statement.session),
    cnf: { jwk: statement.session },
    iat: old ? old.iat : claims.iat,
    exp: statement.expires,
    jti: old ? old.jti : toHex(await challengeOf(statement)).slice(2),
    methods: claims.methods,
    keys: statement.keys,
    scopes: statement.scopes,
    limits: { signatures: statement.uses },
  };
  const header = canonical({ alg: "ES256K", typ: "keyquorum-session+jwt" });
  const is = equal(fromBase64url(parts[0]), utf8(header)) && equal(fromBase64url(parts[1]), utf8(canonical(wanted)));
  must(is && Number.isInteger(claims.iat), "the certificate is for something else than was asked");
  must(isFor(claims.methods, { type: TYPES[method], id }, old?.methods ?? []), "the certificate is for somebody else than logged in");
}

/**
 * @param {any} named identities of the certificate
 * @param {{type: number, id?: string}} who has just logged in
 * @param {Identity[]} before
 */
function isFor(named, who, before) {
  const forms = Array.isArray(named) && named.every((one) => Number.isInteger(one?.type) && /^0x([0-9a-f]{2}){1,64}$/.test(one?.id));
  if (!forms) return false;
  const fits = (/** @type {Identity} */ one) => one.type === who.type && (who.id === undefined || who.id === one.id);
  const fresh = named.filter((one) => !before.some((old) => same(old, one)));
  // Who steps up with a login that is there already adds nothing.
  const found = fresh.length ? fresh : before.filter(fits).slice(0, 1);
  return found.length === 1 && fits(found[0]) && before.every((old) => named.some((one) => same(old, one)));
}
