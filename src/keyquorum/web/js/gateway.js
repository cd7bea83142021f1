/**
 * Asking over HTTP: the gateway that serves this page, and the others that it names. Nobody is believed here (`checks.js`).
 * @module
 */
import { shuffled, spread, turned } from "./runs.js";

const SIGNED_AT_MOST = 3;
const SECONDS = 90;

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
    const signal = AbortSignal.timeout(1000 * SECONDS);
    response = await fetch(url, { credentials: "omit", referrerPolicy: "no-referrer", cache: "no-store", redirect: "error", signal, ...options });
  } catch {
    throw new Refused("unreachable", `${where} does not answer`, "try again in a moment");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  const error = answer?.error ?? {};
  const message = error.message ?? `${where} answered ${response.status}`;
  throw new Refused(error.code ?? "bad_answer", message, error.hint ?? "", error.parties ?? []);
}

/**
 * @param {any} url that somebody else names: providers, code services
 * @returns {string} the same; throws unless it is https, or http on this computer, and names no user
 */
export function safeUrl(url) {
  const { protocol, hostname, username, password } = new URL(url);
  const here = protocol === "http:" && (hostname === "localhost" || hostname === "127.0.0.1" || hostname === "[::1]");
  if ((protocol !== "https:" && !here) || username || password) throw new Error(`the gateway names ${hostname || "an address"} in a form that is not safe: do not log in there`);
  return url;
}

/** @param {string} path */
export const get = (path) => ask(path);

/** @param {string} url @param {object} body */
export const post = (url, body) =>
  ask(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/**
 * Ask for what nodes do together: which of them may do it is signed with the request, and signed again with others when
 * all of these failed. Nodes and threshold are the registry's; who answers is what the gateway says: a lie costs time.
 * @param {import("./chain.js").Network} network
 * @param {string} path
 * @param {(runs: number[][]) => Promise<object>} sign
 * @returns {Promise<any>}
 */
export async function postSigned({ nodes, threshold }, path, sign) {
  const order = shuffled(nodes.map(({ party }) => party));
  const hint = await told();
  let avoid = order.filter((party) => hint.get(party)?.live === false);
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
 * What the gateway says about the nodes just now: whether each answers, and the newest block that it knows.
 * @returns {Promise<Map<number, {live: boolean, block?: number}>>} by party; empty when it does not say
 */
export async function told() {
  try {
    const { nodes } = await get("/v1/network");
    return new Map(nodes.map((/** @type {any} */ node) => [node.party, { live: node.live !== false, block: node.block }]));
  } catch {
    return new Map();
  }
}
