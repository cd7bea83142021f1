/**
 * RLP and Ethereum transactions of type 2 (EIP-1559), unsigned and signed.
 * @module
 */
import { concat, fromHex, fromInteger, toHex } from "./bytes.js";

/** @typedef {Uint8Array | bigint | any[]} Item */

/** @param {number} offset @param {Uint8Array} content */
function framed(offset, content) {
  if (content.length < 56) return concat(new Uint8Array([offset + content.length]), content);
  const length = fromInteger(BigInt(content.length));
  return concat(new Uint8Array([offset + 55 + length.length]), length, content);
}

/** @param {Item} item @returns {Uint8Array<ArrayBuffer>} */
export function encode(item) {
  if (Array.isArray(item)) return framed(0xc0, concat(...item.map(encode)));
  const bytes = typeof item === "bigint" ? fromInteger(item) : item;
  return bytes.length === 1 && bytes[0] < 0x80 ? concat(bytes) : framed(0x80, bytes);
}

/**
 * @typedef {object} Transaction
 * @property {bigint} chainId
 * @property {bigint} nonce
 * @property {bigint} tip maximum priority fee per gas, wei
 * @property {bigint} fee maximum fee per gas, wei
 * @property {bigint} gas
 * @property {string} to 0x address
 * @property {bigint} value wei
 * @property {string} data 0x
 */

/** @param {Transaction} wanted @returns {Item[]} */
const fields = ({ chainId, nonce, tip, fee, gas, to, value, data }) => [chainId, nonce, tip, fee, gas, fromHex(to), value, fromHex(data), []];

/** @param {Item[]} items */
const typed = (items) => toHex(concat(new Uint8Array([2]), encode(items)));

/** @param {Transaction} wanted @returns {string} what nodes decode, show and sign */
export const unsigned = (wanted) => typed(fields(wanted));

/**
 * @param {Transaction} wanted
 * @param {{r: string, s: string, v: number}} signature
 * @returns {string} what the chain takes
 */
export const signed = (wanted, { r, s, v }) => typed([...fields(wanted), BigInt(v & 1), BigInt(r), BigInt(s)]);
