/**
 * The part of the contract ABI that this page needs: numbers, bytes, lists and tuples of them.
 *
 * A type is "uint" (any word: numbers, addresses, flags), "bytes", a tuple [type, ...], or {list: type}.
 * @module
 */
import { concat, fromHex, fromInteger, toHex, toInteger, utf8 } from "./bytes.js";
import { keccak256 } from "./keccak.js";

/** @typedef {"uint" | "bytes" | any[] | {list: any}} Type */

const WORD = 32;

/** @param {Type} type @returns {boolean} whether it stands elsewhere, and its place in the head */
const isDynamic = (type) => type !== "uint" && (!Array.isArray(type) || type.some(isDynamic));

/** @param {bigint} value */
const word = (value) => fromInteger(value, WORD);

/** @param {Type[]} types @param {any[]} values @returns {Uint8Array<ArrayBuffer>} */
function encodeTuple(types, values) {
  if (types.length !== values.length) throw new RangeError("as many values as types");
  const parts = types.map((type, i) => encode(type, values[i]));
  let end = types.reduce((length, type, i) => length + (isDynamic(type) ? WORD : parts[i].length), 0);
  const heads = types.map((type, i) => {
    if (!isDynamic(type)) return parts[i];
    const place = word(BigInt(end));
    end += parts[i].length;
    return place;
  });
  return concat(...heads, ...parts.filter((_, i) => isDynamic(types[i])));
}

/** @param {Type} type @param {any} value @returns {Uint8Array<ArrayBuffer>} */
export function encode(type, value) {
  if (type === "uint") return word(BigInt(value));
  if (type === "bytes") {
    const bytes = fromHex(value);
    return concat(word(BigInt(bytes.length)), bytes, new Uint8Array((WORD - (bytes.length % WORD)) % WORD));
  }
  if (Array.isArray(type)) return encodeTuple(type, value);
  return concat(word(BigInt(value.length)), encodeTuple(value.map(() => type.list), value));
}

/** @param {string} signature of a function or an error @returns {string} 0x, the 4 bytes that stand for it */
export const selector = (signature) => toHex(keccak256(utf8(signature)).slice(0, 4));

/** @param {string} signature of an event @returns {string} 0x, its first topic */
export const topic = (signature) => toHex(keccak256(utf8(signature)));

/**
 * @param {string} signature for example "nonces(uint256)"
 * @param {Type[]} types of its arguments
 * @param {any[]} values
 * @returns {string} 0x call data
 */
export const call = (signature, types, values) => toHex(concat(keccak256(utf8(signature)).slice(0, 4), encodeTuple(types, values)));

/** @param {Uint8Array} data @param {number} at */
const wordAt = (data, at) => {
  if (at + WORD > data.length) throw new RangeError("the answer is cut short");
  return toInteger(data.slice(at, at + WORD));
};

/** @param {Type[]} types @param {Uint8Array} data @param {number} base @returns {any[]} */
function decodeTuple(types, data, base) {
  let head = base;
  return types.map((type) => {
    const at = isDynamic(type) ? base + Number(wordAt(data, head)) : head;
    head += isDynamic(type) ? WORD : sizeOf(type);
    return decodeAt(type, data, at);
  });
}

/** @param {Type} type of a fixed size @returns {number} */
const sizeOf = (type) => (Array.isArray(type) ? type.reduce((size, each) => size + sizeOf(each), 0) : WORD);

/** @param {Type} type @param {Uint8Array} data @param {number} at @returns {any} */
function decodeAt(type, data, at) {
  if (type === "uint") return wordAt(data, at);
  if (Array.isArray(type)) return decodeTuple(type, data, at);
  const length = Number(wordAt(data, at));
  if (length > data.length) throw new RangeError("the answer is cut short");
  if (type === "bytes") return toHex(data.slice(at + WORD, at + WORD + length));
  return decodeTuple(Array(length).fill(type.list), data, at + WORD);
}

/**
 * @param {Type[]} types
 * @param {string} data 0x, what a function returned
 * @returns {any[]} numbers as bigint, bytes as 0x text
 */
export const decode = (types, data) => decodeTuple(types, fromHex(data), 0);
