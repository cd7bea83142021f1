/**
 * Small pieces of the page: elements, the status line, and a dialog that asks for some texts.
 * @module
 */

/** @param {string} id @returns {any} */
export const element = (id) => document.getElementById(id);

/**
 * @param {string} tag
 * @param {string} text set as text: nothing from outside is ever read as markup
 * @param {Record<string, any>} [properties]
 * @returns {any}
 */
export const make = (tag, text, properties = {}) => Object.assign(document.createElement(tag), { textContent: text, ...properties });

/** @param {string} text @param {boolean} [failed] */
export function say(text, failed = false) {
  element("status").textContent = text;
  element("status").className = failed ? "error" : "";
}

/**
 * Run what a button stands for: one thing at a time, its failure told in words.
 * @param {string} doing shown while it runs
 * @param {() => Promise<string | void>} act returns what to say when it is done
 */
export async function run(doing, act) {
  const buttons = [...document.querySelectorAll("main button")].map((button) => /** @type {HTMLButtonElement} */ (button));
  for (const button of buttons) button.disabled = true;
  say(doing);
  try {
    say((await act()) ?? "");
  } catch (error) {
    say(explain(error), true);
  } finally {
    for (const button of document.querySelectorAll("main button")) /** @type {HTMLButtonElement} */ (button).disabled = false;
  }
}

/** @param {any} error */
function explain(error) {
  if (error?.name === "NotAllowedError") return "The passkey was not used: cancelled, timed out, or none fits this page.";
  if (error?.name === "InvalidStateError") return "There is such a passkey on this device already.";
  return error?.message ?? String(error);
}

/**
 * @param {string} title
 * @param {string} text
 * @param {Array<Record<string, any> & {label: string, name: string}>} inputs properties of the input elements
 * @returns {Promise<Record<string, string> | undefined>} undefined: cancelled
 */
export function ask(title, text, inputs) {
  const dialog = /** @type {HTMLDialogElement} */ (element("ask"));
  element("ask-title").textContent = title;
  element("ask-text").textContent = text;
  const fields = inputs.map(({ label, ...properties }) => {
    const field = make("label", `${label} `);
    field.append(Object.assign(document.createElement("input"), properties));
    return field;
  });
  element("ask-fields").replaceChildren(...fields);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      const values = fields.map((field) => field.querySelector("input"));
      resolve(dialog.returnValue === "ok" ? Object.fromEntries(values.map((input) => [input.name, input.value])) : undefined);
    };
  });
}
