/**
 * The page: what is shown, and what the buttons do. Authority is in signatures alone, so losing this page loses nothing.
 * @module
 */
import { discover } from "./chain.js";
import { same } from "./checks.js";
import { button, copies, element, run, say } from "./dialog.js";
import { get } from "./gateway.js";
import * as list from "./key_list.js";
import * as view from "./key_view.js";
import * as login from "./login.js";
import { ways } from "./methods.js";
import * as own from "./own.js";
import { claims, isOpen } from "./session.js";
import { leave, showSessions } from "./session_list.js";
import { chainName } from "./show.js";
import { openSession, state } from "./state.js";
import { forget, load, save } from "./store.js";
import * as terminal from "./terminal.js";

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
  state.session = done.session;
  if (!done.before.length) return firstKey(done.session);
  const adding = await load("adding");
  return adding ? added(done, adding) : (await show(), "Logged in.");
}

/**
 * The login's own key is asked for whatever else the login opens: anybody could have put it on a key of his.
 * @param {import("./session.js").Session} session
 */
async function firstKey(session) {
  state.chosen = undefined;
  say("Looking for your key ...");
  try {
    if (!(await own.held(state.network, session)).length) {
      say("Making your key on the nodes ...");
      state.chosen = await own.own(state.network, session, null, () => say("Your key is made. Waiting until nothing can undo that ..."));
    }
  } finally {
    await show();
  }
  return "Logged in.";
}

/**
 * Permit what the step-up has just proven.
 * @param {login.Done} done
 * @param {import("./own.js").Held} adding to which key
 */
async function added({ before, userPublicKey }, adding) {
  await forget("adding");
  const fresh = claims(openSession()).methods.filter((/** @type {any} */ each) => !before.some((old) => same(old, each)));
  state.chosen = adding;
  try {
    if (fresh.length !== 1) throw new Error("this login was proven before");
    const said = await view.add(adding.key, fresh[0], userPublicKey);
    if (adding.kind !== "foreign") await own.rememberShared(fresh[0], adding.key.token_id);
    return said;
  } finally {
    await show();
  }
}

// ---- showing --------------------------------------------------------------------------------------------------------

/** @param {string} into @param {() => Promise<void>} before @param {import("./session.js").Session} [open] */
function showWays(into, before, open) {
  const start = (/** @type {import("./methods.js").Way} */ way) => async () => {
    await before();
    return opened(await way.start());
  };
  element(into).replaceChildren(...ways(state.network, open).map((way) => button(way.label, `${way.label} ...`, start(way))));
}

async function show() {
  if (!isOpen(state.session)) state.session = state.chosen = undefined;
  const { session } = state;
  element("sign-in").hidden = !!session;
  for (const id of ["keys", "sessions"]) element(id).hidden = !session;
  if (!session) {
    element("key").hidden = true;
    showWays("choices", () => forget("adding"));
    return;
  }
  await Promise.all([list.showKeys(), showSessions()]);
  const { chosen } = state;
  if (chosen) {
    await view.showKey(chosen);
    showWays("add-choices", () => save("adding", chosen), session);
  }
  element("key").hidden = !chosen;
}

async function logOut() {
  await leave();
  await show();
}

/** @param {string} id @param {string} doing @param {(form: FormData) => Promise<string | void>} act */
function onSubmit(id, doing, act) {
  element(id).onsubmit = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    run(doing, () => act(new FormData(element(id))));
  };
}

/** @param {string} id @param {string} doing @param {() => Promise<string | void>} act */
function onClick(id, doing, act) {
  element(id).onclick = () => run(doing, act);
}

function connectButtons() {
  onSubmit("message-form", "Signing on the nodes ...", view.signMessage);
  onSubmit("transfer-form", "Preparing, signing on the nodes, then sending ...", view.send);
  onClick("new-key", "Making a key ...", list.newKey);
  onClick("make-key", "Making a key ...", list.makeKey);
  onClick("more-others", "Looking ...", list.showMore);
  onClick("log-out", "Logging out ...", logOut);
  element("others").ontoggle = () => element("others").open && !element("other-list").firstChild && run("Looking ...", list.showMore);
  copies(element("copy-address"), () => element("address").textContent);
  copies(element("copy-result"), () => element("result").textContent);
  copies(element("copy-network"), () => state.network.network);
}

/** Browsers know no passkeys at numeric addresses: a gateway on this machine is called by its name. */
function byName(/** @type {any} */ offered) {
  const here = new URL(location.href);
  if (offered.rp_id !== "localhost" || here.hostname !== "127.0.0.1") return false;
  here.hostname = "localhost";
  location.replace(here);
  return true;
}

await run("Loading ...", async () => {
  const [offered, file] = await Promise.all([get("/v1/login"), get("/network.json")]);
  if (byName(offered)) return "";
  const facts = await discover(file.rpc, file.network);
  state.network = { ...facts, login: offered, network: file.network, rpc: file.rpc };
  state.show = show;
  element("network").textContent = chainName(facts.chainId);
  element("network").title = element("copy-network").title = file.network;
  connectButtons();
  const served = await terminal.serve(state.network);
  if (served) return served;
  state.session = await load("session");
  return opened(await login.resume(state.network));
});
