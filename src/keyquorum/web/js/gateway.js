/**
 * The gateway that serves this page, and the chain it names. Both are asked, neither is believed more than it must be.
 * @module
 */
import { shuffled, spread, turned } from "./runs.js";

const SIGNED_AT_MOST = 3;

/** An answer that says no, with what a person can do about it. */
export class Refused extends Error {
  /** @param {string} code @param {string} message @param {string} hint @param {number[]} [parties] nodes to avoid */
  constructor(code, message, hint, parties = []) {
    super(hint ? `${message}: ${hint}` : message);
    this.code = code;
    this.parties = parties;
  }
}

/**
 * @param {string} url
 * @param {RequestInit} [options]
 * @returns {Promise<any>} the JSON; throws `Refused`
 */
async function ask(url, options) {
  const where = new URL(url, location.href).host;
  /** @type {Response} */
  let response;
  try {
    response = await fetch(url, { credentials: "omit", referrerPolicy: "no-referrer", cache: "no-store", ...options });
  } catch {
    throw new Refused("unreachable", `${where} does not answer`, "try again in a moment");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  const error = answer?.error ?? {};
  const message = error.message ?? `${where} answered ${response.status}`;
  throw new Refused(error.code ?? "bad_answer", message, error.hint ?? "", error.parties ?? []);
}

/** @param {string} path */
export const get = (path) => ask(path);

/** @param {string} url @param {object} body */
export const post = (url, body) =>
  ask(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/**
 * Ask for what nodes do together: which of them may do it is signed with the request, and signed again with others when
 * all of these failed. Who answers is what the gateway says; a lie costs time, and nothing else.
 * @param {string} path
 * @param {(runs: number[][]) => Promise<object>} sign
 * @returns {Promise<any>}
 */
export async function postSigned(path, sign) {
  const { nodes, threshold } = await get("/v1/network");
  const order = shuffled(nodes.map((/** @type {any} */ node) => node.party));
  let avoid = nodes.filter((/** @type {any} */ node) => node.live === false).map((/** @type {any} */ node) => node.party);
  for (let tries = 0; ; tries++) {
    try {
      return await post(path, await sign(turned(spread(order, threshold, avoid), tries)));
    } catch (error) {
      if (!(error instanceof Refused) || error.code !== "runs_used_up" || tries + 1 === SIGNED_AT_MOST) throw error;
      avoid = [...avoid, ...error.parties];
    }
  }
}

/**
 * What does not change while the page is open.
 * @returns {Promise<{login: any, network: string, chainId: number, contracts: Record<string, string>, rpc: string}>}
 */
export async function describe() {
  const [login, facts, file] = await Promise.all([get("/v1/login"), get("/v1/network"), get("/network.json")]);
  return { login, network: facts.network, chainId: facts.chain_id, contracts: facts.contracts, rpc: file.rpc };
}

/**
 * @param {string} rpc the chain's endpoint
 * @param {string} method
 * @param {...any} params
 */
export async function chain(rpc, method, ...params) {
  const answer = await post(rpc, { jsonrpc: "2.0", id: 1, method, params });
  if (answer.error) throw new Refused("chain", `the chain refuses: ${answer.error.message}`, "");
  return answer.result;
}

/** @param {string} rpc @returns {Promise<string>} hash of the newest block */
export const newestBlock = async (rpc) => (await chain(rpc, "eth_getBlockByNumber", "latest", false)).hash;
