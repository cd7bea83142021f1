/**
 * What is done with a key: it is made, it signs messages and transactions, its sessions are listed and ended.
 * @module
 */
import { chain, get, post, postSigned } from "./gateway.js";
import { signed, unsigned } from "./rlp.js";
import { request } from "./session.js";

/** @typedef {import("./session.js").Session} Session */
/** @typedef {{token_id: string, address: string, public_key: string}} Key */
/** @typedef {{login: any, network: string, chainId: number, contracts: Record<string, string>, rpc: string}} Network */

const RECEIPT_TRIES = 60;
const RECEIPT_PAUSE = 500;

/**
 * The key of this login; asked again, also at once, it is the same one. The gateway pays.
 * @param {Session} session
 * @param {{another?: string | null, userPublicKey?: string}} [wanted] a word for one more key; for passkeys what the chain stores
 * @returns {Promise<Key & {minted: boolean}>}
 */
export async function create(session, { another = null, userPublicKey } = {}) {
  const intent = userPublicKey ? { another, user_pubkey: userPublicKey } : { another };
  return post("/v1/keys", await request(session, "mint", "*", intent)([]));
}

/** @param {string} tokenId @returns {Promise<Key & {owner: string}>} */
export const describe = (tokenId) => get(`/v1/keys/${tokenId}`);

/**
 * @param {Session} session
 * @param {Key} key
 * @param {object} intent
 * @returns {Promise<{signature: {r: string, s: string, v: number, compact: string}, summary: string}>}
 */
export const sign = (session, key, intent) => postSigned("/v1/sign", request(session, "sign", key.token_id, intent));

/** @param {Session} session @param {Key} key @param {string} message */
export const signMessage = (session, key, message) => sign(session, key, { kind: "evm-message", message });

/**
 * Sign a transfer and hand it to the chain.
 * @param {Network} network
 * @param {Session} session
 * @param {Key} key
 * @param {string} to
 * @param {bigint} value wei
 * @returns {Promise<{hash: string, summary: string}>} when it is mined
 */
export async function transfer(network, session, key, to, value) {
  const ask = (/** @type {string} */ method, /** @type {any[]} */ ...params) => chain(network.rpc, method, ...params);
  const call = { from: key.address, to, value: "0x" + value.toString(16) };
  const [nonce, tip, block, gas] = await Promise.all([
    ask("eth_getTransactionCount", key.address, "pending"),
    ask("eth_maxPriorityFeePerGas"),
    ask("eth_getBlockByNumber", "latest", false),
    ask("eth_estimateGas", call),
  ]);
  const wanted = {
    chainId: BigInt(network.chainId),
    nonce: BigInt(nonce),
    tip: BigInt(tip),
    fee: 2n * BigInt(block.baseFeePerGas) + BigInt(tip),
    gas: (BigInt(gas) * 5n) / 4n,
    to,
    value,
    data: "0x",
  };
  const { signature, summary } = await sign(session, key, { kind: "evm-transaction", transaction: unsigned(wanted) });
  const hash = await ask("eth_sendRawTransaction", signed(wanted, signature));
  await mined(network.rpc, hash);
  return { hash, summary };
}

/** @param {string} rpc @param {string} hash */
async function mined(rpc, hash) {
  for (let i = 0; i < RECEIPT_TRIES; i++) {
    const receipt = await chain(rpc, "eth_getTransactionReceipt", hash);
    if (receipt) {
      if (BigInt(receipt.status) !== 1n) throw new Error("the chain executed the transaction, and it failed");
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, RECEIPT_PAUSE));
  }
  throw new Error("the transaction is sent but not mined yet: look for it later");
}

/** @param {string} rpc @param {string} address @returns {Promise<bigint>} wei */
export const balance = async (rpc, address) => BigInt(await chain(rpc, "eth_getBalance", address, "latest"));

/** @param {Session} session @returns {Promise<any[]>} the sessions of whoever opened this one, as the nodes remember them */
export const sessions = async (session) => (await post("/v1/sessions/list", await request(session, "sessions", "*", {})([]))).sessions;

/** @param {Session} session @param {string} id */
export const endSession = (session, id) => postSigned("/v1/revocations", request(session, "revoke", "*", { session: id }));
