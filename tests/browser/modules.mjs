// Runs functions of the page's modules for the Python tests: a list of [module, function, arguments] on standard input,
// the list of results on standard output. {"$bytes": "0x.."} and {"$big": "1"} stand for what JSON lacks,
// {"$key": jwk} for a P-256 key of WebCrypto. With the address of a page, its own server is asked there, and whatever
// waits does so a thousandth of its time.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, page] = process.argv.slice(2);
const revive = (_, value) => {
  if (value && typeof value === "object" && "$bytes" in value) return Uint8Array.from(Buffer.from(value.$bytes.slice(2), "hex"));
  if (value && typeof value === "object" && "$big" in value) return BigInt(value.$big);
  return value;
};
const plain = (_, value) => {
  if (typeof value === "bigint") return { $big: value.toString() };
  if (value instanceof Uint8Array) return { $bytes: "0x" + Buffer.from(value).toString("hex") };
  return value;
};
const algorithm = { name: "ECDSA", namedCurve: "P-256" };
const imported = async (value) => {
  if (value?.$key) return crypto.subtle.importKey("jwk", value.$key, algorithm, false, ["sign"]);
  return value?.key?.$key ? { ...value, key: await imported(value.key) } : value;
};
globalThis.location = new URL(page ?? "http://127.0.0.1/"); // what a page has and node has not
if (page) {
  const [ask, wait] = [globalThis.fetch, globalThis.setTimeout];
  globalThis.fetch = (url, options) => ask(new URL(url, location.href), options);
  globalThis.setTimeout = (work, pause, ...rest) => wait(work, pause / 1000, ...rest);
}
const results = [];
for (const [module, name, args] of JSON.parse(readFileSync(0, "utf8"), revive)) {
  const found = await import(pathToFileURL(`${folder}/${module}.js`));
  try {
    const value = await found[name](...(await Promise.all(args.map(imported))));
    results.push({ value: value?.[Symbol.asyncIterator] ? await Array.fromAsync(value) : value });
  } catch (error) {
    results.push({ error: error.constructor.name });
  }
}
process.stdout.write(JSON.stringify(results, plain));
