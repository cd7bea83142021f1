/**
 * The key that is open: its balance, signing, sending, and the logins that open it.
 * @module
 */
import * as chain from "./chain.js";
import { MANAGE, methodsOf, same } from "./checks.js";
import { ask, button, confirm, element, item, run, showResult } from "./dialog.js";
import * as intents from "./intents.js";
import * as keys from "./keys.js";
import { identitiesOf, ownership } from "./own.js";
import * as permissions from "./permissions.js";
import { afterwards, untilSeen } from "./seen.js";
import { chainName, coinName, coins } from "./show.js";
import { openKey, openSession, state } from "./state.js";

const ETHER = 10n ** 18n;
const METHODS_SHOWN = 50;
const SOONEST = 4000;
const LATEST = 60_000;
const DAY = 86_400;
const MOST_DAYS = 30;

/** @param {string} text */
function toWei(text) {
  const [whole, fraction = ""] = text.split(".");
  return BigInt(whole) * ETHER + BigInt(fraction.padEnd(18, "0"));
}

/** @param {number} seconds */
const span = (seconds) => (seconds % DAY ? `${Math.ceil(seconds / 3600)} hours` : `${seconds / DAY} days`);

// ---- signing and sending --------------------------------------------------------------------------------------------

/** @param {FormData} form */
export async function signMessage(form) {
  const { key } = openKey();
  const text = String(form.get("text"));
  const { summary, login } = intents.message(text);
  if (login && !(await confirm("This is a login", "Whoever gets this signature can log in somewhere as this key.", { ok: "Sign it", rows: [["In the nodes' words", summary]] }))) return undefined;
  const { compact } = await keys.signMessage(state.network, openSession(), key, text);
  showResult("Signature", compact);
  return `Signed. In the nodes' words: ${summary}`;
}

/** @param {FormData} form */
export async function send(form) {
  const { key } = openKey();
  const to = keys.readAddress(String(form.get("to")).trim());
  const planned = await keys.plan(state.network, key, to, toWei(String(form.get("amount"))));
  if (!(await agreed(planned, to))) return "Nothing was sent.";
  const hash = await keys.transfer(state.network, openSession(), key, planned);
  showResult("Transaction", hash);
  element("transfer-form").reset();
  await showBalance(key);
  return `Sent. In the nodes' words: ${planned.read.summary}`;
}

/** @param {keys.Plan} planned @param {string} to */
async function agreed({ wanted, mostFee, total, read, from, dear }, to) {
  const { chainId, value } = wanted;
  if (dear.length && !(await confirm("Unusually expensive", "The chain's endpoint asks for more than usual. It may be lying. Wait, or pay it only if you know why.", { ok: "Pay this much", warnings: dear }))) return false;
  const warnings = [];
  if (BigInt(to) === 0n) warnings.push("Nobody has this address: what is sent there is lost.");
  if (to === from) warnings.push("This is the key's own address.");
  const rows = /** @type {[string, string][]} */ ([
    ["To", to],
    ["Amount", coins(value, chainId)],
    ["Fee, at most", coins(mostFee, chainId)],
    ["Together, at most", coins(total, chainId)],
    ["On", `${chainName(chainId)}, chain ${chainId}`],
    ["In the nodes' words", read.summary],
  ]);
  return confirm("Send?", "This cannot be undone. Compare the address with where you have it from.", { ok: "Send", rows, warnings });
}

// ---- balance --------------------------------------------------------------------------------------------------------

/** @type {ReturnType<typeof setTimeout> | undefined} */
let polling;

/** @param {keys.Key} key @returns {Promise<bigint>} */
async function showBalance(key) {
  const held = await chain.balance(state.network.rpc, key.address);
  if (state.chosen?.key.address === key.address) element("balance").textContent = coins(held, state.network.chainId);
  return held;
}

/** Look again now and then while the page is seen; less often when nothing changes. */
function watchBalance(/** @type {keys.Key} */ key) {
  clearTimeout(polling);
  let [pause, before] = [SOONEST, -1n];
  const look = async () => {
    if (state.chosen?.key.address !== key.address) return;
    if (document.visibilityState === "visible") {
      const held = await showBalance(key).catch(() => before);
      pause = held === before ? Math.min(LATEST, 1.25 * pause) : SOONEST;
      before = held;
    }
    polling = setTimeout(look, pause);
  };
  polling = setTimeout(look, SOONEST);
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && state.chosen) watchBalance(state.chosen.key);
});

// ---- who opens it ---------------------------------------------------------------------------------------------------

/**
 * Permit what the step-up has just proven.
 * @param {keys.Key} key
 * @param {permissions.Identity} identity
 * @param {string} [userPublicKey]
 */
export async function add(key, identity, userPublicKey) {
  await permissions.make(state.network, openSession(), permissions.adding(key, identity, userPublicKey));
  const { delay } = await permissions.waitingOf(state.network, key.token_id);
  return delay ? `Announced. It opens this key in ${span(delay)}, and until then you can cancel it below.` : "Added. It opens this key as soon as the chain has settled it.";
}

/** @param {permissions.Change} change @param {string} done */
async function takeAway(change, done) {
  const block = await permissions.make(state.network, openSession(), change);
  const settled = await untilSeen(state.network, block);
  await state.show();
  return afterwards(settled, done);
}

/** @param {permissions.Identity} identity @param {permissions.Identity[]} left */
async function remove(identity, left) {
  const { key } = openKey();
  const change = permissions.removing(key, identity);
  await permissions.tryOut(state.network, change);
  const name = permissions.nameOf(identity);
  const stay = left.filter((one) => !same(one, identity)).map(permissions.nameOf);
  const warnings = identitiesOf(openSession()).some((one) => same(one, identity)) ? ["You are logged in with it now."] : [];
  const rows = /** @type {[string, string][]} */ ([["Key", key.address], ["Goes", name], ["Stays", stay.slice(0, 10).join(", ") || "other logins"]]);
  if (!(await confirm("Remove this login?", `${name} will not open this key any more, at once, on every device.`, { ok: "Remove", rows, warnings }))) return undefined;
  return takeAway(change, "Removed.");
}

async function setDelay() {
  const { key } = openKey();
  const { delay } = await permissions.waitingOf(state.network, key.token_id);
  const text = `New logins and other changes that loosen this key then wait so long, and you can cancel them meanwhile. Now: ${delay ? span(delay) : "none"}. A longer time counts at once; a shorter one only after the present time.`;
  const asked = await ask("Waiting time", text, [{ label: `Days, 0 to ${MOST_DAYS}`, name: "days", type: "number", min: 0, max: MOST_DAYS, step: 1, required: true, value: `${Math.ceil(delay / DAY)}` }], { ok: "Set it" });
  if (!asked) return undefined;
  return takeAway(permissions.delaying(key, Number(asked.days) * DAY), "Set.");
}

/** @param {permissions.Pending} pending */
async function cancel(pending) {
  const { key } = openKey();
  if (!(await confirm("Cancel this change?", `${describe(pending)} It will not happen.`, { ok: "Cancel the change" }))) return undefined;
  return takeAway(permissions.cancelling(key, pending.id), "Cancelled.");
}

/** @param {permissions.Pending} pending */
function describe({ kind, identity, delay, activeAt }) {
  const what = permissions.KINDS[kind] ?? "a change";
  const more = identity ? `: ${permissions.nameOf(identity)}` : kind === 2 ? `: ${delay ? span(delay) : "none"}` : "";
  return `${what}${more}, from ${new Date(1000 * activeAt).toLocaleString()}.`;
}

// ---- showing --------------------------------------------------------------------------------------------------------

/** @param {import("./own.js").Held} held */
export async function showKey(held) {
  const { key, kind } = held;
  element("address").textContent = key.address;
  element("coin").textContent = coinName(state.network.chainId);
  element("not-own").hidden = kind !== "foreign";
  const { token_id: token } = key;
  const [{ methods, places }, { delay, pending }] = await Promise.all([methodsOf(state.network, token, 0, METHODS_SHOWN), permissions.waitingOf(state.network, token), showBalance(key)]);
  element("not-own").textContent = `This key was not made for your login. ${ownership({ held, logins: places }, identitiesOf(openSession()))} Keep nothing on it that its owner, or another login of it, must not have.`;
  const manages = methods.some((one) => one.scopes.includes(MANAGE) && identitiesOf(openSession()).some((mine) => same(mine, one))) && key.owner === key.address;
  const own = (/** @type {permissions.Identity} */ one) => (identitiesOf(openSession()).some((mine) => same(mine, one)) ? ", yours now" : "");
  const lines = methods.map((each) => {
    const text = `${permissions.nameOf(each)}${each.scopes.includes(MANAGE) ? "" : ", may not manage it"}${own(each)}`;
    return manages ? item(text, button("Remove", "Removing ...", () => remove(each, methods))) : item(text);
  });
  if (places > METHODS_SHOWN) lines.push(item(`${places - METHODS_SHOWN} more logins are not shown here: keyquorum methods list shows all.`));
  element("methods").replaceChildren(...lines);
  element("pending").replaceChildren(...pending.slice(0, METHODS_SHOWN).map((one) => item(describe(one), button("Cancel", "Cancelling ...", () => cancel(one)))));
  element("delay").textContent = delay ? `New logins wait ${span(delay)} before they count.` : "New logins count at once.";
  element("set-delay").onclick = () => run("Setting ...", setDelay);
  element("managing").hidden = !manages;
  watchBalance(key);
}
