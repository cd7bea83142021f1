/**
 * The ways to log in that this network offers, each as a button: a name, and what a click does.
 *
 * A way returns the finished login, or nothing when it was cancelled or the browser leaves for a provider.
 * @module
 */
import * as codes from "./codes.js";
import { ask } from "./dialog.js";
import * as discord from "./discord.js";
import * as login from "./login.js";
import * as oidc from "./oidc.js";
import * as passkey from "./passkey.js";
import { fingerprint } from "./session.js";
import * as wallet from "./wallet.js";

/** @typedef {import("./login.js").Done} Done */
/** @typedef {{label: string, start: () => Promise<Done | undefined>}} Way */

const WORDS = Object.freeze({
  email: { label: "E-mail", input: { type: "email", autocomplete: "email" }, label2: "Your address" },
  sms: { label: "Phone", input: { type: "tel", autocomplete: "tel", pattern: "[+][0-9]{7,15}" }, label2: "Your number, as +491701234567" },
});

/**
 * @param {import("./chain.js").Network} network
 * @param {import("./session.js").Session} [open] a session to be stepped up, when a login is to be added
 * @returns {Way[]}
 */
export function ways(network, open) {
  const { methods, rp_id: rpId, codes: services } = network.login;
  const attempt = () => login.begin(network, open);
  /** @type {Way[]} */
  const found = [];
  if (methods.includes("passkey") && rpId && globalThis.PublicKeyCredential) {
    found.push({ label: "Create a passkey", start: () => newPasskey(network, attempt) });
    found.push({ label: "Use a passkey I have", start: async () => login.withPasskey(network, await attempt()) });
  }
  found.push(...atProviders(network, attempt));
  const browserWallet = wallet.provider();
  if (methods.includes("siwe") && browserWallet) {
    found.push({ label: "Browser wallet", start: () => withWallet(network, attempt, browserWallet) });
  }
  for (const channel of /** @type {const} */ (["email", "sms"])) {
    if (methods.includes(channel) && services.length) {
      found.push({ label: WORDS[channel].label, start: () => withCodes(network, services, channel, attempt) });
    }
  }
  return found;
}

/**
 * @param {import("./chain.js").Network} network
 * @param {() => Promise<login.Attempt>} attempt
 * @returns {Way[]} those for which the browser leaves; a provider under another's name is left out
 */
function atProviders({ login: { methods, oidc: providers, discord: application } }, attempt) {
  /** @type {Way[]} */
  const found = [];
  const offer = (/** @type {() => string} */ labelled, /** @type {(begun: login.Attempt) => Promise<void>} */ leave) => {
    try {
      found.push({ label: labelled(), start: async () => (await leave(await attempt()), undefined) });
    } catch (error) {
      console.warn(/** @type {Error} */ (error).message);
    }
  };
  // "code": an application of programs, which exchange a code with the provider themselves.
  for (const provider of methods.includes("oidc") ? providers.filter((/** @type {any} */ each) => each.flow !== "code") : []) {
    offer(() => oidc.labelOf(provider), (begun) => login.leaveForOidc(begun, provider));
  }
  if (methods.includes("discord") && application) offer(() => discord.labelOf(application), (begun) => login.leaveForDiscord(begun, application));
  return found;
}

/**
 * Make a passkey, and log in with it: the authenticator is asked twice.
 * @param {import("./chain.js").Network} network
 * @param {() => Promise<login.Attempt>} attempt
 */
async function newPasskey(network, attempt) {
  const asked = await ask("Create a passkey", "A name by which you will find it on this device.", [
    { label: "Name", name: "name", required: true, maxLength: 60, value: "Keyquorum key", autocomplete: "username webauthn" },
  ]);
  if (!asked) return undefined;
  const made = await passkey.create(network.login.rp_id, asked.name);
  return login.withPasskey(network, await attempt(), [made]);
}

/**
 * @param {import("./chain.js").Network} network
 * @param {() => Promise<login.Attempt>} attempt
 * @param {wallet.Provider} provider
 */
async function withWallet(network, attempt, provider) {
  const begun = await attempt();
  return login.finish(network, begun, "siwe", await wallet.prove(begun.statement, provider));
}

/**
 * @param {import("./chain.js").Network} network
 * @param {string[]} services
 * @param {"email" | "sms"} channel
 * @param {() => Promise<login.Attempt>} attempt
 */
async function withCodes(network, services, channel, attempt) {
  const words = WORDS[channel];
  const where = await ask(words.label, "Each code service sends you a code of its own.", [
    { label: words.label2, name: "address", required: true, ...words.input },
  ]);
  if (!where) return undefined;
  const begun = await attempt();
  const sent = await codes.send(services, channel, where.address.trim(), begun.statement);
  const shown = await fingerprint(begun.session.jwk);
  const typed = await ask("Your codes", `Type a code only if its message shows this session: ${shown}`, sent.map(inputFor));
  if (!typed) return undefined;
  const given = sent.filter(({ id }) => typed[id]);
  const assertions = await Promise.all(given.map((one) => codes.answer(one, typed[one.id].replace(/\s/g, ""), begun.session.key)));
  if (!assertions.length) throw new Error("no code was typed");
  return login.finish(network, begun, channel, codes.proof(assertions));
}

/** @param {codes.Asked} asked */
const inputFor = ({ id, name, digits }) => ({
  label: `Code from ${name}`,
  name: id,
  inputMode: "numeric",
  autocomplete: "one-time-code",
  maxLength: digits + 2,
});
