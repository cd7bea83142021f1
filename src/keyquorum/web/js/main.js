/**
 * The page: what is shown, and what the buttons do. Authority is in signatures alone, so losing this page loses nothing.
 * @module
 */
import { ask, element, make, run, say } from "./dialog.js";
import { describe } from "./gateway.js";
import * as keys from "./keys.js";
import * as login from "./login.js";
import { ways } from "./methods.js";
import * as permissions from "./permissions.js";
import { claims, isOpen } from "./session.js";
import { forget, load, save } from "./store.js";
import * as terminal from "./terminal.js";

const ETHER = 10n ** 18n;
const MOST_KEYS = 50;
/** Token ids of keys that were made here and now, for this login alone. */
const madeHere = new Set();

/** @type {keys.Network} */
let network;
/** @type {import("./session.js").Session | undefined} */
let session;
/** @type {keys.Key | undefined} */
let chosen;

/** @param {bigint} wei */
const inEther = (wei) => `${wei / ETHER}.${(wei % ETHER).toString().padStart(18, "0")}`.replace(/\.?0+$/, "");

/** @param {string} text */
function toWei(text) {
  const [whole, fraction = ""] = text.split(".");
  return BigInt(whole) * ETHER + BigInt(fraction.padEnd(18, "0"));
}

/** @param {permissions.Identity} identity */
const nameOf = ({ type, id }) => `${permissions.METHOD_NAMES[/** @type {1} */ (type)] ?? `method ${type}`} ${id.slice(0, 10)}…`;

/** @param {permissions.Identity} one @param {permissions.Identity} other */
const same = (one, other) => one.type === other.type && one.id === other.id;

// ---- logging in -----------------------------------------------------------------------------------------------------

/**
 * @param {login.Done | undefined} done
 * @returns {Promise<string>} what to say
 */
async function opened(done) {
  if (!done) {
    await show();
    return "";
  }
  session = done.session;
  const added = claims(session).methods.filter((/** @type {any} */ each) => !done.before.some((old) => same(old, each)));
  if (!done.before.length && (await needsKey())) {
    say("Making your key on the nodes ...");
    chosen = await keys.create(session, { userPublicKey: done.userPublicKey });
    madeHere.add(chosen?.token_id);
  }
  await show();
  const adding = await load("adding");
  return done.before.length && adding ? add(adding, added, done.userPublicKey) : "Logged in.";
}

/**
 * Whether this login is new here. Nobody knows the names of most logins before their first use, so a key that one
 * opens was meant for it; a wallet's address is known to all, who may have put it on keys of theirs. Its own key is made
 * once, however often it is asked for.
 */
const needsKey = async () => claims(session ?? fail()).methods[0].type === 1 || !(await theirKeys()).length;

/** @returns {Promise<string[]>} token ids that this session's identities open */
async function theirKeys() {
  const lists = await Promise.allSettled(
    claims(session ?? fail()).methods.map((/** @type {any} */ each) => permissions.keysOf(network, each)),
  );
  // A list that somebody made too long to read must not close the page: what is missing in it is only harder to find.
  return [...new Set(lists.flatMap((list) => (list.status === "fulfilled" ? list.value : [])))].slice(0, MOST_KEYS);
}

/** @returns {never} */
function fail() {
  throw new Error("log in first");
}

// ---- a key ----------------------------------------------------------------------------------------------------------

/** @param {string} tokenId */
async function choose(tokenId) {
  chosen = await keys.describe(tokenId);
  await show();
}

/**
 * Permit what the step-up has just proven.
 * @param {keys.Key} key
 * @param {permissions.Identity[]} added
 * @param {string} [userPublicKey]
 */
async function add(key, added, userPublicKey) {
  await forget("adding");
  if (!added.length) throw new Error("this login was proven before");
  for (const identity of added) await permissions.addMethod(network, session ?? fail(), key, { ...identity, userPublicKey });
  chosen = key;
  await show();
  return "Added. It opens this key as soon as the chain has settled it.";
}

/** @param {permissions.Identity} identity */
async function remove(identity) {
  const sure = await ask("Remove this login?", `${nameOf(identity)} will not open this key any more, at once.`, []);
  if (!sure) return undefined;
  await permissions.removeMethod(network, session ?? fail(), chosen ?? fail(), identity);
  await show();
  return "Removed.";
}

/** @param {FormData} form */
async function signMessage(form) {
  const signed = await keys.signMessage(session ?? fail(), chosen ?? fail(), String(form.get("text")));
  element("result").textContent = signed.signature.compact;
  return signed.summary;
}

/** @param {FormData} form */
async function send(form) {
  const sent = await keys.transfer(network, session ?? fail(), chosen ?? fail(), String(form.get("to")), toWei(String(form.get("amount"))));
  element("result").textContent = sent.hash;
  await show();
  return sent.summary;
}

// ---- showing --------------------------------------------------------------------------------------------------------

/** @param {string} label @param {string} doing @param {() => Promise<string | void>} act */
const button = (label, doing, act) => make("button", label, { type: "button", onclick: () => run(doing, act) });

/** @param {string} text @param {...HTMLElement} buttons */
function item(text, ...buttons) {
  const line = make("li", "");
  line.append(make("span", text), ...buttons);
  return line;
}

/** @param {string} into @param {() => Promise<void>} before @param {import("./session.js").Session} [open] */
function showWays(into, before, open) {
  const start = (/** @type {import("./methods.js").Way} */ way) => async () => {
    await before();
    return opened(await way.start());
  };
  element(into).replaceChildren(...ways(network, open).map((way) => button(way.label, `${way.label} ...`, start(way))));
}

async function show() {
  if (!isOpen(session)) session = undefined;
  element("sign-in").hidden = !!session;
  for (const id of ["keys", "sessions"]) element(id).hidden = !session;
  element("key").hidden = !session || !chosen;
  if (!session) {
    showWays("choices", () => forget("adding"));
    return;
  }
  await Promise.all([showKeys(), showSessions(session), chosen && showKey(chosen)]);
}

async function showKeys() {
  const found = await Promise.all((await theirKeys()).map(keys.describe));
  if (chosen && !found.some((key) => key.token_id === chosen?.token_id)) found.unshift(/** @type {any} */ (chosen));
  const lines = found.map((key) => item(key.address, button("Open", "Opening ...", () => choose(key.token_id))));
  element("key-list").replaceChildren(...lines);
  element("foreign-note").hidden = found.every((key) => madeHere.has(key.token_id));
}

/** @param {keys.Key} key */
async function showKey(key) {
  element("address").textContent = key.address;
  element("balance").textContent = `${inEther(await keys.balance(network.rpc, key.address))} ether`;
  const methods = await permissions.methodsOf(network, key.token_id);
  const lines = methods.map((each) => item(nameOf(each), button("Remove", "Removing ...", () => remove(each))));
  element("methods").replaceChildren(...lines);
  showWays("add-choices", () => save("adding", key), session);
}

/** @param {import("./session.js").Session} open */
async function showSessions(open) {
  const own = claims(open).jti;
  /** @type {any[]} */
  let found = [];
  try {
    found = await keys.sessions(open);
  } catch (error) {
    // A list to look at: without it everything else still works.
    element("session-list").replaceChildren(item(`The nodes do not list your sessions now (${/** @type {Error} */ (error).message}).`));
    return;
  }
  const lines = found.map((one) => {
    const until = new Date(1000 * one.expires).toLocaleTimeString();
    const text = `${one.methods.map(nameOf).join(", ")} until ${until}${one.id === own ? ", this one" : ""}${one.revoked ? ", ended" : ""}`;
    return one.revoked ? item(text) : item(text, button("End", "Ending ...", () => end(one.id, own)));
  });
  element("session-list").replaceChildren(...lines);
}

/** @param {string} id @param {string} own */
async function end(id, own) {
  await keys.endSession(session ?? fail(), id);
  if (id === own) await logOut();
  await show();
  return "Ended.";
}

async function logOut() {
  await forget("session");
  session = chosen = undefined;
  await show();
}

/** @param {string} id @param {string} doing @param {(form: FormData) => Promise<string | void>} act */
function onSubmit(id, doing, act) {
  element(id).onsubmit = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    run(doing, () => act(new FormData(element(id))));
  };
}

async function newKey() {
  const asked = await ask("One more key", "A word of your own, by which this login gets the same key again.", [
    { label: "Word", name: "word", required: true, maxLength: 64 },
  ]);
  if (!asked) return;
  // A passkey's registration goes onto the chain with its key, so it proves itself again.
  const passkey = claims(session ?? fail()).methods[0].type === 3;
  const done = passkey ? await login.withPasskey(network, await login.begin(network)) : undefined;
  session = done?.session ?? session;
  chosen = await keys.create(session ?? fail(), { another: asked.word, userPublicKey: done?.userPublicKey });
  await show();
}

/** Browsers know no passkeys at numeric addresses: a gateway on this machine is called by its name. */
function byName() {
  const here = new URL(location.href);
  if (network.login.rp_id !== "localhost" || here.hostname !== "127.0.0.1") return false;
  here.hostname = "localhost";
  location.replace(here);
  return true;
}

await run("Loading ...", async () => {
  network = await describe();
  if (byName()) return "";
  element("network").textContent = network.network;
  onSubmit("message-form", "Signing on the nodes ...", signMessage);
  onSubmit("transfer-form", "Signing on the nodes, then sending ...", send);
  element("new-key").onclick = () => run("Making a key ...", newKey);
  element("log-out").onclick = () => run("Logging out ...", logOut);
  const served = await terminal.serve(network);
  if (served) return served;
  session = await load("session");
  return opened(await login.resume());
});
