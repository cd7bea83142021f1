// Draws twice from each place of the page that takes something at random; prints {name: [first, second]}.
import { pathToFileURL } from "node:url";

const [folder] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(`${folder}/${name}.js`));
const payloadOf = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url").toString());

// What the modules need of a browser.
let asked;
const define = (name, value) => Object.defineProperty(globalThis, name, { value, configurable: true });
define("sessionStorage", { setItem() {}, getItem: () => null, removeItem() {} });
define("location", { origin: "http://localhost", pathname: "/", hash: "" });
define("PublicKeyCredential", { parseCreationOptionsFromJSON: (options) => (asked = options) });
define("navigator", { credentials: { create: async () => null } });

const [bytes, session, statement, oidc, passkey] = await Promise.all(["bytes", "session", "statement", "oidc", "passkey"].map(load));
const held = await session.newSession();
const certificate = `a.${Buffer.from(JSON.stringify({ iss: "n", exp: 1 })).toString("base64url")}.b`;
const created = async () => {
  await passkey.create("localhost", "me").catch(() => undefined);
  return asked;
};
const draws = {
  "random bytes": () => bytes.toHex(bytes.random(32)),
  "a session key": async () => (await session.newSession()).jwk.x,
  "a request id": async () => payloadOf((await session.request({ ...held, certificate }, "sign", "*", {})([[1]])).request).id,
  "a statement's nonce": () => statement.newStatement({}).nonce,
  "a provider's state": () => oidc.newState(),
  "a passkey's user": async () => (await created()).user.id,
  "a passkey's challenge": async () => (await created()).challenge,
};
const found = {};
for (const [name, draw] of Object.entries(draws)) found[name] = [await draw(), await draw()];
process.stdout.write(JSON.stringify(found));
