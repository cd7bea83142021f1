/**
 * The ways to log in that this network offers, each as a button: a name, and what a click does.
 *
 * A way returns the finished login, or nothing when it was cancelled or the browser leaves for a provider.
 * @module
 */
import * as codes from "./codes.js";
import { ask } from "./dialog.js";
import * as login from "./login.js";
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
 * @param {import("./keys.js").Network} network
 * @param {import("./session.js").Session} [open] a session to be stepped up, when a login is to be added
 * @returns {Way[]}
 */
export function ways(network, open) {
  const { methods, oidc, discord, codes: services } = network.login;
  const attempt = () => login.begin(network, open);
  /** @type {Way[]} */
  const found = [];
  if (methods.includes("passkey") && network.login.rp_id && globalThis.PublicKeyCredential) {
    found.push({ label: "New passkey", start: () => newPasskey(network, attempt) });
    found.push({ label: "Passkey", start: async () => login.withPasskey(network, await attempt()) });
  }
  if (methods.includes("oidc")) {
    // "code": an application of programs, which exchange a code with the provider themselves.
    for (const provider of oidc.filter((/** @type {any} */ each) => each.flow !== "code")) {
      found.push({ label: titled(provider.name), start: async () => (await login.leaveForOidc(await attempt(), provider), undefined) });
    }
  }
  if (methods.includes("discord") && discord) {
    found.push({ label: "Discord", start: async () => (await login.leaveForDiscord(await attempt(), discord), undefined) });
  }
  const browserWallet = wallet.provider();
  if (methods.includes("siwe") && browserWallet) {
    found.push({ label: "Wallet", start: () => withWallet(attempt, browserWallet) });
  }
  for (const channel of /** @type {const} */ (["email", "sms"])) {
    if (methods.includes(channel) && services.length) {
      found.push({ label: WORDS[channel].label, start: () => withCodes(services, channel, attempt) });
    }
  }
  return found;
}

/** @param {string} name */
const titled = (name) => name.charAt(0).toUpperCase() + name.slice(1);

/**
 * Make a passkey, and log in with it: the authenticator is asked twice.
 * @param {import("./keys.js").Network} network
 * @param {() => Promise<login.Attempt>} attempt
 */
async function newPasskey(network, attempt) {
  const asked = await ask("New passkey", "A name by which you will find it on this device.", [
    { label: "Name", name: "name", required: true, maxLength: 60, value: "Keyquorum key", autocomplete: "username webauthn" },
  ]);
  if (!asked) return undefined;
  const made = await passkey.create(network.login.rp_id, asked.name);
  return login.withPasskey(network, await attempt(), [made]);
}

/** @param {() => Promise<login.Attempt>} attempt @param {wallet.Provider} provider */
async function withWallet(attempt, provider) {
  const begun = await attempt();
  return login.finish(begun, "siwe", await wallet.prove(begun.statement, provider));
}

/**
 * @param {string[]} services
 * @param {"email" | "sms"} channel
 * @param {() => Promise<login.Attempt>} attempt
 */
async function withCodes(services, channel, attempt) {
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
  return login.finish(begun, channel, codes.proof(assertions));
}

/** @param {codes.Asked} asked */
const inputFor = ({ id, name, digits }) => ({
  label: `Code from ${name}`,
  name: id,
  inputMode: "numeric",
  autocomplete: "one-time-code",
  maxLength: digits + 2,
});
