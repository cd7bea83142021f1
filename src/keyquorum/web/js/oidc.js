/**
 * Google and other OpenID Connect providers: the browser goes there, and comes back with an id_token in the fragment.
 *
 * The token is bound by its nonce, which is the statement's challenge, so whoever else sees it cannot use it. `state` binds the
 * answer to this tab: it is kept in the tab's own storage. There is no server secret and no code to exchange
 * (OpenID Connect Core 1.0, section 3.2; the fragment never reaches a server).
 * @module
 */
import { random, toBase64url } from "./bytes.js";
import { get, safeUrl } from "./gateway.js";

const STATE = "keyquorum-state";

/** Where providers send the browser back to: this page, without query and fragment. */
export const redirectUri = () => location.origin + location.pathname;

/**
 * The gateway says who a provider is; what a person reads on the button must not be another's name.
 * @param {{name: string, issuer: string}} provider
 * @returns {string} for the button: the name, and the host where the browser will be
 */
export function labelOf({ name, issuer }) {
  const { host } = new URL(safeUrl(issuer));
  if (/google/i.test(name) && host !== "accounts.google.com") throw new Error(`this gateway calls ${host} Google: do not log in there`);
  return `${name.charAt(0).toUpperCase()}${name.slice(1)} (${host})`;
}

/** @param {{issuer: string, authorization_endpoint?: string}} provider */
async function endpointOf(provider) {
  if (provider.authorization_endpoint) return provider.authorization_endpoint;
  const found = await get(`${safeUrl(provider.issuer).replace(/\/$/, "")}/.well-known/openid-configuration`);
  if (found.issuer !== provider.issuer) throw new Error("the provider's discovery document is another issuer's");
  return found.authorization_endpoint;
}

/**
 * @param {{issuer: string, client_id: string, authorization_endpoint?: string}} provider
 * @param {string} nonce the challenge, 64 hex digits
 * @returns {Promise<string>} where to send the browser
 */
export async function authorizationUrl(provider, nonce) {
  return withQuery(await endpointOf(provider), {
    client_id: provider.client_id,
    response_type: "id_token",
    response_mode: "fragment",
    scope: "openid",
    redirect_uri: redirectUri(),
    nonce,
    state: newState(),
  });
}

/** @param {string} url @param {Record<string, string>} values */
export function withQuery(url, values) {
  const whole = new URL(safeUrl(url));
  for (const [name, value] of Object.entries(values)) whole.searchParams.set(name, value);
  return whole.href;
}

/** Begin an answer that only this tab can receive. */
export function newState() {
  const state = toBase64url(random(24));
  sessionStorage.setItem(STATE, state);
  return state;
}

/**
 * Take a provider's answer out of the address bar.
 * @returns {Record<string, string> | undefined} undefined: there is none, or not for this tab
 */
export function takeAnswer() {
  if (location.hash.length < 2) return undefined;
  const answer = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  // A token must not stay where it is seen, bookmarked or sent on.
  history.replaceState(null, "", redirectUri());
  const expected = sessionStorage.getItem(STATE);
  sessionStorage.removeItem(STATE);
  return expected && answer.state === expected ? answer : undefined;
}
