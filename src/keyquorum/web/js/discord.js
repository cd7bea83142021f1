/**
 * Discord: an access token that is good for whoever holds it. So every node first signs a receipt for the hash of the
 * token with this session's key, and only then sees the token (`auth/commitment.py`).
 *
 * Whether the receipts are the nodes' own is not checked here: they could be compared only with accounts that the same
 * gateway names, which also serves this page. Who does not want to trust it uses the command line.
 * @module
 */
import { fromBase64url, toHex } from "./bytes.js";
import { post } from "./gateway.js";
import { newState, redirectUri, withQuery } from "./oidc.js";
import { challengeOf } from "./statement.js";
import { Tag, taggedHash } from "./transcript.js";

const METHOD = "discord";

/** @param {{application_id: string, base_url: string}} application */
export const authorizationUrl = (application) =>
  withQuery(`${application.base_url.replace(/\/$/, "")}/oauth2/authorize`, {
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
 * @param {string} token
 * @param {import("./statement.js").Statement} statement
 * @returns {Promise<object>} the proof of method `discord`
 */
export async function prove(token, statement) {
  const { receipts } = await post("/v1/commitments", await commitment(token, statement));
  return { token, receipts };
}
