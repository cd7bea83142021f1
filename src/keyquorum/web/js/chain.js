/**
 * The chain, asked through the endpoint that the network file names: contracts, nodes, the network key, transactions.
 *
 * The network's id names chain and PubkeyRouter, and everything else is read from there: what the gateway says about
 * contracts and nodes is not used. The endpoint itself is believed about the chain.
 * @module
 */
import { call, decode, selector } from "./abi.js";
import { fromHex } from "./bytes.js";
import { Refused, post } from "./gateway.js";
import { checksum } from "./keccak.js";

/**
 * @typedef {object} Network
 * @property {any} login with what people can log in, as the gateway says
 * @property {string} network id
 * @property {string} rpc the chain's endpoint
 * @property {number} chainId
 * @property {Record<string, string>} contracts
 * @property {Uint8Array} networkKey 65 bytes
 * @property {{party: number, address: string}[]} nodes
 * @property {number} threshold
 * @property {number} epoch
 */

/** @typedef {Network | Pick<Network, "rpc" | "contracts">} Place */

const ID = /^eip155:([1-9][0-9]{0,15}):(0x[0-9a-fA-F]{40})$/;
const DEV_CHAIN = 31337;
const SPREADS_SECONDS = 2;
const NODE = ["uint", "uint", "uint", "uint", "bytes", "bytes"];

/** A contract said no: `data` is what it gave as the reason, 0x. */
export class Reverted extends Refused {
  /** @param {string} message @param {string} data */
  constructor(message, data) {
    super("reverted", `the contract refuses: ${message}`, "");
    this.data = data;
  }

  /** @param {string} error for example "LastManager(uint256)" */
  is(error) {
    return this.data.startsWith(selector(error));
  }
}

/** @param {any} error of JSON-RPC */
function refusal(error) {
  const data = typeof error.data === "string" ? error.data : (error.data?.data ?? error.data?.result ?? "");
  if (error.code === 3 || /revert/i.test(`${error.message}`)) return new Reverted(`${error.message}`, `${data}`);
  return new Refused("chain", `the chain refuses: ${error.message}`, "");
}

/**
 * @param {string} endpoint
 * @param {string} method
 * @param {...any} params
 */
export async function rpc(endpoint, method, ...params) {
  const answer = await post(endpoint, { jsonrpc: "2.0", id: 1, method, params });
  if (answer.error) throw refusal(answer.error);
  if (answer.result === undefined) throw new Refused("bad_answer", "the chain's endpoint answers with something else", "");
  return answer.result;
}

/**
 * @param {Place} place
 * @param {string} contract
 * @param {string} signature of the view
 * @param {import("./abi.js").Type[]} types of its arguments
 * @param {any[]} values
 * @param {import("./abi.js").Type[]} results
 * @param {string} [block]
 * @returns {Promise<any[]>}
 */
export async function view(place, contract, signature, types, values, results, block = "latest") {
  const data = call(signature, types, values);
  return decode(results, await rpc(place.rpc, "eth_call", { to: place.contracts[contract], data }, block));
}

/** @param {bigint} word @returns {string} the address in it */
export const addressIn = (word) => checksum("0x" + word.toString(16).padStart(40, "0").slice(-40));

/** @param {bigint} word @returns {string} */
export const tokenIn = (word) => "0x" + word.toString(16).padStart(64, "0");

/**
 * @param {string} endpoint
 * @param {string} id of the network
 * @returns {Promise<Omit<Network, "login" | "network" | "rpc">>}
 */
export async function discover(endpoint, id) {
  const [, chain, router] = ID.exec(id) ?? [];
  if (!router) throw new Error("the gateway names no network");
  if (BigInt(await rpc(endpoint, "eth_chainId")) !== BigInt(chain)) throw new Error("the chain's endpoint serves another chain than the network's");
  const place = { rpc: endpoint, contracts: /** @type {Record<string, string>} */ ({ PubkeyRouter: checksum(router) }) };
  const find = async (/** @type {string} */ at, /** @type {string} */ getter) => addressIn((await view(place, at, getter, [], [], ["uint"]))[0]);
  [place.contracts.PKPNFT, place.contracts.Staking] = await Promise.all([find("PubkeyRouter", "pkpNft()"), find("PubkeyRouter", "staking()")]);
  [place.contracts.PKPPermissions, place.contracts.PKPHelper] = await Promise.all([find("PKPNFT", "permissions()"), find("PKPNFT", "helper()")]);
  place.contracts.Sessions = await find("PKPPermissions", "sessions()");
  const [[key], [nodes], [threshold], [epoch]] = await Promise.all([
    view(place, "PubkeyRouter", "networkKey()", [], [], ["bytes"]),
    view(place, "Staking", "getNodes()", [], [], [{ list: NODE }]),
    view(place, "Staking", "threshold()", [], [], ["uint"]),
    view(place, "Staking", "epoch()", [], [], ["uint"]),
  ]);
  return {
    chainId: Number(chain),
    contracts: place.contracts,
    networkKey: fromHex(key),
    nodes: nodes.map((/** @type {bigint[]} */ [address, party]) => ({ party: Number(party), address: addressIn(address) })),
    threshold: Number(threshold),
    epoch: Number(epoch),
  };
}

/** @param {Pick<Network, "chainId">} network @returns {string} the block from which on nothing changes any more */
export const finality = (network) => (network.chainId === DEV_CHAIN ? "latest" : "finalized");

/** @param {string} endpoint @returns {Promise<number>} */
export const newestNumber = async (endpoint) => Number(await rpc(endpoint, "eth_blockNumber"));

/**
 * The newest block that every node knows by now: a proof counts as made at its time, and must not be older than what was
 * ended a moment ago.
 * @param {string} endpoint
 * @returns {Promise<string>} its hash
 */
export async function recentBlock(endpoint) {
  const block = await rpc(endpoint, "eth_getBlockByNumber", "latest", false);
  return Number(block.timestamp) + SPREADS_SECONDS <= Date.now() / 1000 ? block.hash : block.parentHash;
}

/** @param {string} endpoint @param {string} address @returns {Promise<bigint>} wei */
export const balance = async (endpoint, address) => BigInt(await rpc(endpoint, "eth_getBalance", address, "latest"));

/**
 * @param {string} endpoint
 * @param {string} hash
 * @param {number} seconds
 * @returns {Promise<any>} the receipt; undefined when there is none in time
 */
export async function receiptOf(endpoint, hash, seconds) {
  for (let pause = 100, left = 1000 * seconds; ; pause = Math.min(2000, 1.5 * pause)) {
    const receipt = await rpc(endpoint, "eth_getTransactionReceipt", hash);
    if (receipt || left < pause) return receipt ?? undefined;
    left -= pause;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
