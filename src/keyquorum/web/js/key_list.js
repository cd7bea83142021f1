/**
 * The lists of keys: a person's own, and apart from them, folded, all others that his login opens.
 * @module
 */
import { ask, button, confirm, element, item, make } from "./dialog.js";
import * as own from "./own.js";
import { openSession, state } from "./state.js";

/** @typedef {import("./own.js").Held} Held */

/** @type {ReturnType<typeof own.others> | undefined} what is left of the others, while they are looked through */
let rest;

const KINDS = Object.freeze({ own: "made for your login", shared: "you added this login to it, in this browser", foreign: "" });

/** @param {Held} held */
const titleOf = ({ kind, word }) => (kind === "own" ? (word === null ? "Your key" : `“${word}”`) : "Shared");

/** @param {Held} held */
const isOpen = ({ key }) => state.chosen?.key.token_id === key.token_id;

/** @param {Held} held */
function line(held) {
  const text = make("span", "");
  text.append(make("strong", titleOf(held)), make("code", held.key.address), make("small", KINDS[held.kind]));
  const row = make("li", "");
  row.append(text, isOpen(held) ? make("em", "open below") : button("Open", "Opening ...", () => open(held)));
  return row;
}

/** @param {Held} held */
async function open(held) {
  state.chosen = held;
  await state.show();
}

/** Show the keys of the session's logins; the first of one's own is open unless another was chosen. */
export async function showKeys() {
  const session = openSession();
  const [found, lists] = await Promise.all([own.held(state.network, session), own.places(state.network, session)]);
  state.chosen = state.chosen && !found.some(isOpen) && state.chosen.kind !== "foreign" ? undefined : state.chosen;
  state.chosen ??= found[0];
  element("key-list").replaceChildren(...found.map(line));
  element("no-key").hidden = found.length > 0;
  element("make-key").hidden = found.length > 0;
  const others = Math.max(0, lists.reduce((sum, { places }) => sum + places, 0) - found.length);
  element("others").hidden = !others;
  element("others").open = false;
  element("others-title").textContent = `${others} other ${others === 1 ? "key" : "keys"} that your login opens`;
  element("other-list").replaceChildren();
  element("others-left").textContent = "";
  element("more-others").hidden = false;
  rest = others ? own.others(state.network, lists, found.map(({ key }) => key.token_id)) : undefined;
}

/** Show the next page of the others. */
export async function showMore() {
  const next = await rest?.next();
  const { found, left } = next?.value ?? { found: [], left: 0 };
  element("other-list").append(...found.map((/** @type {any} */ one) => other(one)));
  element("more-others").hidden = !left;
  element("others-left").textContent = left ? `${left} more entries are not shown yet.` : "These are all.";
}

/** @param {{held: Held, logins: number}} one */
function other(one) {
  const text = own.ownership(one, own.identitiesOf(openSession()));
  const row = item("", button("Open ...", "Opening ...", () => openOther(one.held, text)));
  row.firstChild.append(make("code", one.held.key.address), make("small", text));
  return row;
}

/** @param {Held} held @param {string} text */
async function openOther(held, text) {
  const why = "It was not made for your login. Whoever owns it, and whoever else may log in to it, can take what is on it. Open it only if you know this address and who shares it with you.";
  if (await confirm("Not your own key", why, { ok: "I know it: open", rows: [["Address", held.key.address], ["What it is", text]] })) await open(held);
}

/** Ask for the first key of a login that has none yet. */
export async function makeKey() {
  state.chosen = await own.own(state.network, openSession(), null);
  await state.show();
}

/** Ask for one more key. */
export async function newKey() {
  const asked = await ask("Another key", "Give it a name of your choice. With the same name you get the same key again, also at another device.", [
    { label: "Name", name: "word", required: true, maxLength: 64 },
  ], { ok: "Make it" });
  if (!asked) return;
  state.chosen = await own.own(state.network, openSession(), asked.word);
  await state.show();
}
