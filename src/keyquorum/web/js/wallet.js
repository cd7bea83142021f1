/**
 * A browser wallet (EIP-1193) signs a Sign-In with Ethereum message (EIP-4361); the proof of method `siwe`.
 * @module
 */
import { toHex, utf8 } from "./bytes.js";
import { checksum } from "./keccak.js";
import { chainIdOf, challengeOf, grantLine, sessionUri } from "./statement.js";

/** @typedef {{request: (asked: {method: string, params?: any[]}) => Promise<any>}} Provider */

/** @param {number} seconds Unix time */
const iso = (seconds) => new Date(1000 * seconds).toISOString().replace(".000", "");

/**
 * @param {import("./statement.js").Statement} statement
 * @param {string} address
 * @param {string} domain host, with the port if there is one
 * @param {number} issuedAt Unix seconds
 * @returns {Promise<string>} what the wallet shows and signs
 */
export async function message(statement, address, domain, issuedAt) {
  return [
    `${domain} wants you to sign in with your Ethereum account:`,
    checksum(address),
    "",
    grantLine(statement),
    "",
    `URI: ${await sessionUri(statement)}`,
    "Version: 1",
    `Chain ID: ${chainIdOf(statement)}`,
    `Nonce: ${toHex(await challengeOf(statement)).slice(2)}`,
    `Issued At: ${iso(issuedAt)}`,
    `Expiration Time: ${iso(statement.expires)}`,
  ].join("\n");
}

/** @returns {Provider | undefined} the wallet of this browser */
export const provider = () => /** @type {any} */ (globalThis).ethereum;

/**
 * @param {import("./statement.js").Statement} statement
 * @param {Provider} wallet
 * @returns {Promise<{message: string, signature: string}>}
 */
export async function prove(statement, wallet) {
  const [address] = await wallet.request({ method: "eth_requestAccounts" });
  const text = await message(statement, address, location.host, Math.floor(Date.now() / 1000));
  const signature = await wallet.request({ method: "personal_sign", params: [toHex(utf8(text)), address] });
  return { message: text, signature };
}
