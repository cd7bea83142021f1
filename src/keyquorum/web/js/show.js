/**
 * How nodes word what they sign (spec/intents.md, "Summary"): the same words as `intents/show.py`, so that what a person
 * was shown can be compared, letter for letter, with what the nodes say they signed.
 * @module
 */
import { toHex, utf8 } from "./bytes.js";
import { canonical } from "./jws.js";
import { keccak256 } from "./keccak.js";

const MAX_SUMMARY = 200;
const MAX_QUOTED = 60;
const ETHER = 10n ** 18n;
const CHAINS = Object.freeze(/** @type {Record<string, [string, string]>} */ ({
  1: ["Ethereum", "ETH"],
  10: ["Optimism", "ETH"],
  56: ["BNB Smart Chain", "BNB"],
  100: ["Gnosis", "xDAI"],
  137: ["Polygon", "POL"],
  324: ["zkSync Era", "ETH"],
  8453: ["Base", "ETH"],
  17000: ["Holesky (a test network)", "ETH"],
  31337: ["a development chain (no real money)", "ETH"],
  42161: ["Arbitrum One", "ETH"],
  43114: ["Avalanche", "AVAX"],
  59144: ["Linea", "ETH"],
  84532: ["Base Sepolia (a test network)", "ETH"],
  421614: ["Arbitrum Sepolia (a test network)", "ETH"],
  534352: ["Scroll", "ETH"],
  560048: ["Hoodi (a test network)", "ETH"],
  11155111: ["Sepolia (a test network)", "ETH"],
}));

/** @param {number | bigint} chainId */
export const chainName = (chainId) => CHAINS[`${chainId}`]?.[0] ?? `chain ${chainId}`;

/** @param {number | bigint} chainId */
export const coinName = (chainId) => CHAINS[`${chainId}`]?.[1] ?? "native coins";

/** @param {bigint} wei @returns {string} in units of 10^18, every digit and no others */
export const decimal = (wei) => `${wei / ETHER}.${(wei % ETHER).toString().padStart(18, "0")}`.replace(/\.?0+$/, "");

/** @param {bigint} wei @param {number | bigint} chainId */
export const coins = (wei, chainId) => `${decimal(wei)} ${coinName(chainId)}`;

/** @param {Uint8Array} data */
export const fingerprint = (data) => `${data.length} bytes, keccak ${toHex(keccak256(data).slice(0, 4))}`;

/** @param {string} text */
const escaped = (text) => canonical(text).slice(1, -1);

/** @param {string} text @param {number} [limit] characters in the quotes; what is longer is cut, and its hash follows */
export function quoted(text, limit = MAX_QUOTED) {
  const letters = Array.from(text);
  const whole = escaped(letters.slice(0, limit + 1).join(""));
  if (letters.length <= limit && whole.length <= limit) return `"${whole}"`;
  let shown = "";
  for (const letter of letters) {
    if (shown.length + escaped(letter).length > limit) break;
    shown += escaped(letter);
  }
  return `"${shown}"... (${fingerprint(utf8(text))})`;
}

/** @param {string[]} parts the most important first @param {Uint8Array} digest */
export function oneLine(parts, digest) {
  const more = `; and more (${toHex(digest.slice(0, 4))})`;
  let [line, kept] = ["", ""];
  for (const part of parts) {
    line = line ? `${line}; ${part}` : part;
    if (line.length > MAX_SUMMARY) return kept + more;
    if (line.length <= MAX_SUMMARY - more.length) kept = line;
  }
  return line;
}
