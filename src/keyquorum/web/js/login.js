/**
 * Logging in: a session key, a statement, a proof by some method, the network's certificate.
 *
 * A login is an `Attempt`. Methods that send the browser away keep it in this browser until the provider's answer. With
 * an open session an attempt is a step-up: the certificate then names who was proven before as well, which is how
 * another login is found before it is added to a key.
 * @module
 */
import { toHex } from "./bytes.js";
import * as discord from "./discord.js";
import { recentBlock } from "./chain.js";
import { certificate as checkCertificate } from "./checks.js";
import { postSigned } from "./gateway.js";
import { takeAnswer, authorizationUrl } from "./oidc.js";
import * as passkey from "./passkey.js";
import { claims, loginRequest, newSession } from "./session.js";
import { challengeOf, newStatement } from "./statement.js";
import { forget, load, save } from "./store.js";

/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./chain.js").Network} Network */
/** @typedef {{session: Session, statement: import("./statement.js").Statement, stepUp?: string}} Attempt */
/** @typedef {{session: Session, before: any[], userPublicKey?: string}} Done `before`: the identities of the session that was stepped up */

const SECONDS = 15 * 60;
const USES = 100;
const SCOPES = [1, 6];
const WAITING = "waiting";

/**
 * @param {Network} network
 * @param {Session} [open] to be stepped up
 * @returns {Promise<Attempt>}
 */
export async function begin(network, open) {
  const block = await recentBlock(network.rpc);
  if (open) {
    const { keys, scopes, exp, limits } = claims(open);
    const wanted = { network: network.network, session: open.jwk, keys, scopes, expires: exp, block, uses: limits.signatures };
    return { session: open, statement: newStatement(wanted), stepUp: open.certificate };
  }
  const session = await newSession();
  const expires = Math.floor(Date.now() / 1000) + SECONDS;
  const wanted = { network: network.network, session: session.jwk, keys: ["*"], scopes: SCOPES, expires, block, uses: USES };
  return { session, statement: newStatement(wanted) };
}

/**
 * @param {Network} network
 * @param {Attempt} attempt
 * @param {string} method
 * @param {any} proof
 * @returns {Promise<Done>} with a certificate that holds for exactly this; the session is remembered by this browser
 */
export async function finish(network, { session, statement, stepUp }, method, proof) {
  const { certificate } = await postSigned(network, "/v1/sessions", loginRequest(session, statement, method, proof, stepUp));
  const old = stepUp ? claims(session) : undefined;
  const id = await identityOf(network, method, proof);
  await checkCertificate(network, certificate, statement, method, id, old);
  const userPublicKey = method === "passkey" ? passkey.userPublicKey(proof) : undefined;
  const passkeys = id && userPublicKey ? { ...session.passkeys, [id]: userPublicKey } : session.passkeys;
  const opened = { ...session, certificate, passkeys };
  await save("session", opened);
  return { session: opened, before: old?.methods ?? [], userPublicKey };
}

/**
 * @param {Network} network
 * @param {string} method
 * @param {any} proof
 * @returns {Promise<string | undefined>} whose proof it is, where that can be known here; names at providers only nodes know
 */
async function identityOf(network, method, proof) {
  if (method === "siwe") return proof.message.split("\n")[1].toLowerCase();
  return method === "passkey" ? passkey.identity(network.login.rp_id, proof) : undefined;
}

/**
 * @param {Network} network
 * @param {Attempt} attempt
 * @param {BufferSource[]} [allowed] credential ids
 */
export async function withPasskey(network, attempt, allowed) {
  const challenge = await challengeOf(attempt.statement);
  return finish(network, attempt, "passkey", await passkey.prove(network.login.rp_id, challenge, allowed));
}

/**
 * Leave for a provider; its answer is taken by `resume`.
 * @param {Attempt} attempt
 * @param {{name: string, issuer: string, client_id: string}} provider
 */
export async function leaveForOidc(attempt, provider) {
  const nonce = toHex(await challengeOf(attempt.statement)).slice(2);
  return leave(attempt, "oidc", await authorizationUrl(provider, nonce));
}

/** @param {Attempt} attempt @param {{application_id: string, base_url: string}} application */
export const leaveForDiscord = (attempt, application) => leave(attempt, "discord", discord.authorizationUrl(application));

/** @param {Attempt} attempt @param {string} method @param {string} url */
async function leave(attempt, method, url) {
  await save(WAITING, { attempt, method });
  location.assign(url);
}

/**
 * @param {Network} network
 * @returns {Promise<Done | undefined>} the login that a provider's answer completes, if the page was opened by one
 */
export async function resume(network) {
  const answer = takeAnswer();
  if (!answer) return undefined;
  const waiting = await load(WAITING);
  await forget(WAITING);
  if (!waiting) return undefined;
  if (answer.error) throw new Error(`the provider says: ${answer.error_description ?? answer.error}`);
  const { attempt, method } = waiting;
  if (method === "oidc") return finish(network, attempt, method, { id_token: answer.id_token ?? "" });
  return finish(network, attempt, method, await discord.prove(network, answer.access_token ?? "", attempt.statement));
}
