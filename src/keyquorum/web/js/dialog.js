/**
 * Small pieces of the page: elements, the status line, texts to be copied, and a dialog that asks.
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

let busy = false;

/**
 * Run what a button stands for: one thing at a time, however often it is clicked; its failure told in words. What an
 * earlier one has left is cleared first, so that no old result stands below a new error.
 * @param {string} doing shown while it runs
 * @param {() => Promise<string | void>} act returns what to say when it is done
 */
export async function run(doing, act) {
  if (busy) return;
  busy = true;
  const buttons = () => /** @type {HTMLButtonElement[]} */ ([...document.querySelectorAll("main button")]);
  for (const button of buttons()) button.disabled = true;
  element("result").textContent = "";
  element("outcome").hidden = true;
  say(doing);
  try {
    say((await act()) ?? "");
  } catch (error) {
    say(explain(error), true);
  } finally {
    busy = false;
    for (const button of buttons()) button.disabled = false;
  }
}

/** @param {string} label @param {string} text a result that can be copied */
export function showResult(label, text) {
  element("result-label").textContent = label;
  element("result").textContent = text;
  element("outcome").hidden = false;
}

/** @param {any} error */
function explain(error) {
  if (error?.name === "NotAllowedError") return "The passkey was not used: cancelled, timed out, or none fits this page.";
  if (error?.name === "InvalidStateError") return "There is such a passkey on this device already.";
  return error?.message ?? String(error);
}

/** @param {string} label @param {string} doing @param {() => Promise<string | void>} act */
export const button = (label, doing, act) => make("button", label, { type: "button", onclick: () => run(doing, act) });

/** @param {string} text a line of a list @param {...HTMLElement} buttons */
export function item(text, ...buttons) {
  const line = make("li", "");
  line.append(make("span", text), ...buttons);
  return line;
}

/**
 * Let a button copy what an element shows.
 * @param {HTMLElement} control
 * @param {() => string} text
 */
export function copies(control, text) {
  const label = control.textContent;
  control.onclick = async () => {
    const copied = await navigator.clipboard.writeText(text()).then(() => true, () => false);
    control.textContent = copied ? "Copied" : "Select it to copy";
    setTimeout(() => (control.textContent = label), 1500);
  };
}

/**
 * @param {string} title
 * @param {string} text
 * @param {Array<Record<string, any> & {label: string, name: string}>} inputs properties of the input elements
 * @param {{ok?: string, rows?: [string, string][], warnings?: string[]}} [more] the button's word; what will happen, line by line
 * @returns {Promise<Record<string, string> | undefined>} undefined: cancelled
 */
export function ask(title, text, inputs, { ok = "Continue", rows = [], warnings = [] } = {}) {
  const dialog = /** @type {HTMLDialogElement} */ (element("ask"));
  element("ask-title").textContent = title;
  element("ask-text").textContent = text;
  element("ask-ok").textContent = ok;
  element("ask-rows").replaceChildren(...rows.flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
  element("ask-warnings").replaceChildren(...warnings.map((warning) => make("li", warning)));
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

/** @param {string} title @param {string} text @param {Parameters<typeof ask>[3]} more @returns {Promise<boolean>} */
export const confirm = async (title, text, more) => (await ask(title, text, [], more)) !== undefined;
