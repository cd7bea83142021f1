/**
 * The list of a person's sessions, and ending them.
 * @module
 */
import { button, confirm, element, item } from "./dialog.js";
import { nameOf } from "./permissions.js";
import { afterwards, untilSeen } from "./seen.js";
import { claims } from "./session.js";
import * as sessions from "./sessions.js";
import { openSession, state } from "./state.js";
import { forget } from "./store.js";

/** @param {sessions.Listed} one @param {string} own */
function line(one, own) {
  const until = new Date(1000 * one.expires).toLocaleTimeString();
  const text = `${one.methods.map(nameOf).join(", ")} until ${until}${one.id === own ? ", this one" : ""}${one.revoked ? ", ended" : ""}`;
  return one.revoked ? item(text) : item(text, button("End", "Ending ...", () => end(one.id, text, own)));
}

export async function showSessions() {
  const session = openSession();
  const own = claims(session).jti;
  try {
    const { shown, more } = await sessions.list(state.network, session);
    const lines = shown.map((one) => line(one, own));
    if (more) lines.push(item(`${more} more are not shown here: keyquorum sessions list shows them.`));
    element("session-list").replaceChildren(...lines);
  } catch (error) {
    // A list to look at: without it everything else still works.
    element("session-list").replaceChildren(item(`The nodes do not list your sessions now (${/** @type {Error} */ (error).message}).`));
  }
}

/** @param {string} id @param {string} text @param {string} own */
async function end(id, text, own) {
  const why = id === own ? "You will be logged out here." : "Whoever uses it will be logged out, and can sign nothing more with it.";
  if (!(await confirm("End this login?", why, { ok: "End it", rows: [["Login", text]] }))) return undefined;
  const block = await sessions.end(state.network, openSession(), id);
  const settled = await untilSeen(state.network, block);
  if (id === own) await leave();
  await state.show();
  return afterwards(settled, "Ended.");
}

/** Forget the session here; it ends by itself, or for everybody by "End". */
export async function leave() {
  await forget("session");
  state.session = state.chosen = undefined;
}
