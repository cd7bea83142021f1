/**
 * What is open on the page now.
 * @module
 */

/**
 * @type {{
 *   network: import("./chain.js").Network,
 *   session: import("./session.js").Session | undefined,
 *   chosen: import("./own.js").Held | undefined,
 *   show: () => Promise<void>,
 * }} `show` draws everything anew
 */
export const state = { network: /** @type {any} */ (undefined), session: undefined, chosen: undefined, show: async () => {} };

/** @returns {import("./session.js").Session} */
export function openSession() {
  if (!state.session) throw new Error("log in first");
  return state.session;
}

/** @returns {import("./own.js").Held} */
export function openKey() {
  if (!state.chosen) throw new Error("open a key first");
  return state.chosen;
}
