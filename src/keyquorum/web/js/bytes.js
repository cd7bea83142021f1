/**
 * Bytes and their texts: hex after 0x, base64url without padding (RFC 4648, section 5), UTF-8.
 * @module
 */

/** @param {string} text */
export const utf8 = (text) => new TextEncoder().encode(text);

/**
 * @param {...Uint8Array} parts
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}

/**
 * @param {Uint8Array} bytes
 * @returns {string} 0x and lower-case digits
 */
export const toHex = (bytes) => "0x" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/**
 * @param {string} text 0x and an even number of digits
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function fromHex(text) {
  if (!/^0x([0-9a-fA-F]{2})*$/.test(text)) throw new RangeError("not 0x and whole bytes in hex");
  const bytes = new Uint8Array((text.length - 2) / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(text.slice(2 + 2 * i, 4 + 2 * i), 16);
  return bytes;
}

/** @param {ArrayBuffer | Uint8Array} data */
export function toBase64url(data) {
  const bytes = new Uint8Array(data);
  const text = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/**
 * @param {string} text
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function fromBase64url(text) {
  if (!/^[A-Za-z0-9_-]*$/.test(text)) throw new RangeError("not base64url");
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
}

/**
 * @param {bigint} value not negative
 * @param {number} [length] in bytes; left out: as few as possible, none for 0
 * @returns {Uint8Array<ArrayBuffer>} big-endian
 */
export function fromInteger(value, length) {
  if (value < 0n) throw new RangeError("not negative");
  let digits = value === 0n ? "" : value.toString(16);
  digits = length === undefined ? digits.padStart(digits.length + (digits.length % 2), "0") : digits.padStart(2 * length, "0");
  if (length !== undefined && digits.length > 2 * length) throw new RangeError("the number is too large");
  return fromHex("0x" + digits);
}

/** @param {Uint8Array} bytes */
export const toInteger = (bytes) => BigInt(bytes.length ? toHex(bytes) : "0x0");

/** @param {Uint8Array} one @param {Uint8Array} other */
export const equal = (one, other) => one.length === other.length && one.every((byte, i) => byte === other[i]);

/** @param {number} length @returns {Uint8Array<ArrayBuffer>} */
export const random = (length) => crypto.getRandomValues(new Uint8Array(length));

/** @param {Uint8Array<ArrayBuffer>} data @returns {Promise<Uint8Array<ArrayBuffer>>} */
export const sha256 = async (data) => new Uint8Array(await crypto.subtle.digest("SHA-256", data));
