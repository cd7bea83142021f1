/**
 * What is done with a key: it is made, it signs messages and transfers.
 * @module
 */
import * as checks from "./checks.js";
import { balance, receiptOf, rpc } from "./chain.js";
import { fromHex, toHex } from "./bytes.js";
import { DEFAULT_TIP, tooDear } from "./fees.js";
import { post, postSigned } from "./gateway.js";
import * as intents from "./intents.js";
import { checksum, keccak256 } from "./keccak.js";
import { signed } from "./rlp.js";
import { claims, request } from "./session.js";
import { coins } from "./show.js";

/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./chain.js").Network} Network */
/** @typedef {import("./checks.js").Seen} Seen */
/** @typedef {{token_id: string, address: string}} Key */

const RECEIPT_SECONDS = 60;

/**
 * The key of this login, new or not: asked again, also at once, it is the same one. The gateway pays; what it answers is
 * compared with the chain, and the key is returned when its mint cannot be undone.
 * @param {Network} network
 * @param {Session} session
 * @param {string | null} word for one more key
 * @param {() => void} [waiting] called when only finality is waited for
 * @returns {Promise<{key: Seen, relay: string}>}
 */
export async function create(network, session, word, waiting = () => {}) {
  const who = claims(session).methods[0];
  const userPublicKey = session.passkeys?.[who.id];
  const intent = userPublicKey ? { another: word, user_pubkey: userPublicKey } : { another: word };
  const answer = await post("/v1/keys", await request(session, "mint", "*", intent)([]));
  const key = await checks.mintedKey(network, who, word, userPublicKey ?? "0x", answer);
  waiting();
  await checks.untilFinal(network, answer.relay, who, word, key.token_id);
  return { key, relay: answer.relay };
}

/**
 * @param {Network} network
 * @param {Session} session
 * @param {Key} key
 * @param {import("./intents.js").Read} read
 * @returns {Promise<{r: string, s: string, v: number, compact: string}>} made by this key over exactly this
 */
export async function sign(network, session, key, read) {
  const answer = await postSigned(network, "/v1/sign", request(session, "sign", key.token_id, read.intent));
  return checks.signature(answer, read, key.address);
}

/**
 * @typedef {object} Plan a transfer that waits for a yes
 * @property {import("./rlp.js").Transaction} wanted
 * @property {import("./intents.js").Read} read
 * @property {string} from
 * @property {bigint} mostFee wei
 * @property {bigint} total wei
 * @property {string[]} dear what is unusual about its price
 */

/**
 * @param {string} text
 * @returns {string} the address with its checksum; throws when it was mistyped
 */
export function readAddress(text) {
  const address = checksum(text);
  const digits = text.slice(2);
  const mixed = digits !== digits.toLowerCase() && digits !== digits.toUpperCase();
  if (mixed && text !== address) throw new Error("this address is mistyped: its capital letters do not fit the rest. Copy it again");
  return address;
}

/**
 * @param {Network} network
 * @param {Key} key
 * @param {string} to
 * @param {bigint} value wei
 * @returns {Promise<Plan>}
 */
export async function plan(network, key, to, value) {
  const ask = (/** @type {string} */ method, /** @type {any[]} */ ...params) => rpc(network.rpc, method, ...params);
  const held = await balance(network.rpc, key.address);
  const have = coins(held, network.chainId);
  if (held < value) throw new Error(`this key has ${have}, which is less than what you want to send`);
  const call = { from: key.address, to, value: "0x" + value.toString(16) };
  const [nonce, tip, block, estimate] = await Promise.all([
    ask("eth_getTransactionCount", key.address, "pending"),
    ask("eth_maxPriorityFeePerGas").catch(() => DEFAULT_TIP),
    ask("eth_getBlockByNumber", "latest", false),
    ask("eth_estimateGas", call),
  ]);
  const [chainId, baseFee, priority] = [BigInt(network.chainId), BigInt(block.baseFeePerGas ?? 0), BigInt(tip)];
  const wanted = { chainId, nonce: BigInt(nonce), tip: priority, fee: 2n * baseFee + priority, gas: (BigInt(estimate) * 5n) / 4n, to, value, data: "0x" };
  const mostFee = wanted.gas * wanted.fee;
  const total = value + mostFee;
  if (held < total) throw new Error(`this key has ${have}: with a fee of up to ${coins(mostFee, chainId)} that is not enough`);
  const dear = tooDear({ gas: wanted.gas, fee: wanted.fee, tip: priority, baseFee, chainId });
  return { wanted, read: intents.transfer(wanted), from: key.address, mostFee, total, dear };
}

/**
 * Sign a transfer and hand it to the chain; it is known by the hash computed here, whatever the endpoint calls it.
 * @param {Network} network
 * @param {Session} session
 * @param {Key} key
 * @param {Plan} planned
 * @returns {Promise<string>} its hash, when it is mined
 */
export async function transfer(network, session, key, { wanted, read, from }) {
  const raw = signed(wanted, await sign(network, session, key, read));
  const hash = toHex(keccak256(fromHex(raw)));
  const named = await rpc(network.rpc, "eth_sendRawTransaction", raw);
  const receipt = await receiptOf(network.rpc, hash, RECEIPT_SECONDS);
  if (!receipt) throw new Error(`the transaction ${hash} is sent but not mined yet: look for it before you send again`);
  const told = [named, receipt.transactionHash, receipt.from].map((each) => `${each}`.toLowerCase());
  if (`${told}` !== `${[hash, hash, from.toLowerCase()]}`) throw new checks.BadAnswer(`the chain's endpoint answered for another transaction than ${hash}, which was signed`);
  if (BigInt(receipt.status) !== 1n) throw new Error(`the chain executed the transaction ${hash}, and it failed`);
  return hash;
}

/**
 * @param {Network} network
 * @param {Session} session
 * @param {string} text
 * @param {Key} key
 */
export async function signMessage(network, session, key, text) {
  return sign(network, session, key, intents.message(text));
}
