/**
 * A login for a program on this computer (`keyquorum login passkey`): this page asks the passkey and hands back its proof.
 *
 * The program made the session key and the statement, which come in the fragment of this page's address. Any page of the
 * world can open this one with such a fragment, so the person is shown what is granted and the session's fingerprint,
 * which the program shows too, and nothing is asked of the passkey before he agrees. The proof goes to this machine
 * only. It holds for the statement that was shown, since that is what was hashed; without the session key it is worth nothing.
 * @module
 */
import { fromBase64url, toBase64url, utf8 } from "./bytes.js";
import { ask } from "./dialog.js";
import * as passkey from "./passkey.js";
import { fingerprint } from "./session.js";
import { SCOPE_WORDS, challengeOf, grantLine } from "./statement.js";

/** @typedef {import("./statement.js").Statement} Statement */
/** @typedef {{back: string, state: string, statement: Statement}} Asked */

const BACK = /^http:\/\/127\.0\.0\.1:[1-9][0-9]{0,4}\/callback$/;

/** @returns {Asked | undefined} what a program asks for, if the page was opened by one */
function takeQuestion() {
  const found = new URLSearchParams(location.hash.slice(1));
  const back = found.get("terminal");
  if (back === null) return undefined;
  history.replaceState(null, "", location.pathname);
  if (!BACK.test(back)) throw new Error("a login is handed only to a program on this computer");
  const said = new TextDecoder("utf-8", { fatal: true }).decode(fromBase64url(found.get("statement") ?? ""));
  return { back, state: found.get("state") ?? "", statement: JSON.parse(said) };
}

/**
 * Do what a program asks for.
 * @param {import("./chain.js").Network} network
 * @returns {Promise<string | undefined>} what to say when it is done; undefined: nobody asked
 */
export async function serve(network) {
  const asked = takeQuestion();
  if (!asked) return undefined;
  const { back, state, statement } = asked;
  const text = await question(network, statement);
  let trouble = "";
  for (;;) {
    const answer = await ask("A program asks for your login", trouble + text, [
      { label: "Only for a new passkey: its name", name: "name", maxLength: 60, autocomplete: "off" },
    ]);
    if (!answer) return leave(back, { state, error: "access_denied" });
    try {
      const { rp_id } = network.login;
      const made = answer.name ? [await passkey.create(rp_id, answer.name)] : undefined;
      const proof = await passkey.prove(rp_id, await challengeOf(statement), made);
      return leave(back, { state, proof: toBase64url(utf8(JSON.stringify(proof))) });
    } catch (error) {
      trouble = `${/** @type {Error} */ (error).message} Try again: `;
    }
  }
}

/**
 * @param {import("./chain.js").Network} network
 * @param {Statement} statement
 */
async function question(network, statement) {
  if (statement.network !== network.network) throw new Error("the program asks for a login to another network");
  if (!statement.scopes.every((number) => Number.isInteger(number) && Object.hasOwn(SCOPE_WORDS, number))) throw new Error("the program asks for rights that do not exist");
  const minutes = Math.ceil((statement.expires - Date.now() / 1000) / 60);
  if (!(minutes > 0 && Number.isSafeInteger(statement.uses))) throw new Error("the program's login has expired: start it again");
  const shown = await fingerprint(statement.session);
  return `${grantLine(statement)} For ${minutes} minutes and ${statement.uses} signatures at most. Agree only if you have just started the program yourself, and it shows this session: ${shown}`;
}

/** @param {string} back @param {Record<string, string>} answer */
function leave(back, answer) {
  location.replace(`${back}#${new URLSearchParams(answer)}`);
  return "The program has its answer.";
}
