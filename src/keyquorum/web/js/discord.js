/**
 * Discord: an access token that is good for whoever holds it. So every node first signs a receipt for the hash of the
 * token with this session's key, and only then sees the token (`auth/commitment.py`).
 *
 * Whether the receipts are the nodes' own is seen by the registry's accounts before the token is shown to anybody.
 * @module
 */
import { fromBase64url, fromHex, toHex, toInteger } from "./bytes.js";
import { post, safeUrl } from "./gateway.js";
import { newState, redirectUri, withQuery } from "./oidc.js";
import { addressOf, recover } from "./secp256k1.js";
import { challengeOf } from "./statement.js";
import { Tag, taggedHash } from "./transcript.js";

const METHOD = "discord";
const MAX_AGE = 600;
const SKEW = 60;

/**
 * @param {{base_url: string}} application
 * @returns {string} for the button; throws when the gateway calls somebody else Discord
 */
export function labelOf({ base_url: url }) {
  const { host, protocol } = new URL(safeUrl(url));
  if (protocol === "https:" && host !== "discord.com") throw new Error(`this gateway calls ${host} Discord: do not log in there`);
  return host === "discord.com" ? "Discord" : `Discord (${host})`;
}

/** @param {{application_id: string, base_url: string}} application */
export const authorizationUrl = (application) =>
  withQuery(`${safeUrl(application.base_url).replace(/\/$/, "")}/oauth2/authorize`, {
    client_id: application.application_id,
    response_type: "token",
    scope: "identify",
    redirect_uri: redirectUri(),
    state: newState(),
  });

/**
 * @param {string} token
 * @param {import("./statement.js").Statement} statement
 * @returns {Promise<{method: string, statement: object, token_digest: string, binding: string}>}
 */
export async function commitment(token, statement) {
  const challenge = toHex(await challengeOf(statement)).slice(2);
  const { x, y } = statement.session;
  const spelling = token.toLowerCase().split(".").map((part) => part.slice(0, -1)).join(".");
  const digest = await taggedHash(Tag.BEARER_DIGEST, METHOD, spelling);
  const binding = await taggedHash(Tag.BEARER_BINDING, METHOD, token, fromBase64url(x), fromBase64url(y), challenge);
  return { method: METHOD, statement, token_digest: toHex(digest), binding: toHex(binding) };
}

/**
 * How many nodes must have committed, so that no two tokens of one name can both have enough (`auth/commitment.py`).
 * @param {number} n
 * @param {number} t
 */
export const receiptsNeeded = (n, t) => Math.floor((n + t - 1) / 2) + 1;

/**
 * @param {import("./chain.js").Network} network
 * @param {Awaited<ReturnType<typeof commitment>>} committed
 * @param {any} receipt
 * @param {number} now Unix seconds
 * @returns {Promise<boolean>} whether a node of the registry signed it a moment ago for exactly this commitment
 */
export async function isGood({ network, epoch, nodes }, committed, receipt, now) {
  const { party, issued_at: at, signature } = receipt ?? {};
  const node = nodes.find((each) => each.party === party);
  if (!node || !Number.isSafeInteger(at) || at > now + SKEW || at < now - MAX_AGE - SKEW) return false;
  if (!/^0x[0-9a-f]{130}$/.test(signature)) return false;
  const digest = await taggedHash(Tag.BEARER_RECEIPT, network, epoch, party, fromHex(committed.token_digest), fromHex(committed.binding), at);
  const bytes = fromHex(signature);
  try {
    return addressOf(recover(digest, toInteger(bytes.slice(0, 32)), toInteger(bytes.slice(32, 64)), bytes[64] - 27)) === node.address;
  } catch {
    return false;
  }
}

/**
 * @param {import("./chain.js").Network} network
 * @param {string} token
 * @param {import("./statement.js").Statement} statement
 * @returns {Promise<object>} the proof of method `discord`; throws, with the token shown to nobody, when too few committed
 */
export async function prove(network, token, statement) {
  const committed = await commitment(token, statement);
  const { receipts } = await post("/v1/commitments", committed);
  const now = Date.now() / 1000;
  const good = new Map();
  for (const receipt of Array.isArray(receipts) ? receipts.slice(0, 2 * network.nodes.length) : []) {
    if (!good.has(receipt?.party) && (await isGood(network, committed, receipt, now))) good.set(receipt.party, receipt);
  }
  const needed = receiptsNeeded(network.nodes.length, network.threshold);
  if (good.size < needed) throw new Error(`${good.size} nodes committed to this login, ${needed} must: nothing was shown to anybody. Log in again when more nodes run, or another way`);
  return { token, receipts: [...good.values()].sort((a, b) => a.party - b.party).slice(0, needed) };
}
