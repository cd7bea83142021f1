/**
 * Keccak-256 as Ethereum uses it (the padding of the original submission, not of SHA-3), for addresses and function
 * selectors. Nothing secret goes through it, so it is written to be read: lanes are BigInts of 64 bits.
 * @module
 */
import { concat, toHex, utf8 } from "./bytes.js";

const RATE = 136;
const MASK = (1n << 64n) - 1n;

/** Rotations of the lanes in the order of the pi step (FIPS 202, sections 3.2.2 and 3.2.3). */
const PATH = (() => {
  const path = [];
  for (let t = 0, x = 1, y = 0; t < 24; t++) {
    path.push({ lane: x + 5 * y, rotation: BigInt((((t + 1) * (t + 2)) / 2) % 64) });
    [x, y] = [y, (2 * x + 3 * y) % 5];
  }
  return path;
})();

/** The round constants, from the linear feedback register of section 3.2.5. */
const ROUNDS = (() => {
  let register = 1;
  const bit = () => {
    const out = register & 1;
    register = register & 0x80 ? ((register << 1) ^ 0x171) & 0xff : register << 1;
    return out;
  };
  return Array.from({ length: 24 }, () => {
    let constant = 0n;
    for (let j = 0; j < 7; j++) if (bit()) constant |= 1n << BigInt(2 ** j - 1);
    return constant;
  });
})();

/** @param {bigint} lane @param {bigint} by */
const rotate = (lane, by) => ((lane << by) | (lane >> (64n - by))) & MASK;

/** @param {bigint[]} lanes 25 of them, changed in place */
function permute(lanes) {
  for (const constant of ROUNDS) {
    const columns = [0, 1, 2, 3, 4].map((x) => lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20]);
    for (let i = 0; i < 25; i++) lanes[i] ^= columns[(i + 4) % 5] ^ rotate(columns[(i + 1) % 5], 1n);
    let carried = lanes[1];
    for (const [t, { rotation }] of PATH.entries()) {
      const target = PATH[(t + 1) % 24].lane;
      [lanes[target], carried] = [rotate(carried, rotation), lanes[target]];
    }
    for (let y = 0; y < 25; y += 5) {
      const row = lanes.slice(y, y + 5);
      for (let x = 0; x < 5; x++) lanes[y + x] = row[x] ^ (~row[(x + 1) % 5] & MASK & row[(x + 2) % 5]);
    }
    lanes[0] ^= constant;
  }
}

/**
 * @param {Uint8Array} data
 * @returns {Uint8Array<ArrayBuffer>} 32 bytes
 */
export function keccak256(data) {
  const padding = new Uint8Array(RATE - (data.length % RATE));
  padding[0] = 0x01;
  padding[padding.length - 1] |= 0x80;
  const padded = concat(data, padding);
  const lanes = new Array(25).fill(0n);
  const view = new DataView(padded.buffer);
  for (let start = 0; start < padded.length; start += RATE) {
    for (let i = 0; i < RATE / 8; i++) lanes[i] ^= view.getBigUint64(start + 8 * i, true);
    permute(lanes);
  }
  const hash = new Uint8Array(32);
  for (let i = 0; i < 4; i++) new DataView(hash.buffer).setBigUint64(8 * i, lanes[i], true);
  return hash;
}

/**
 * @param {string} address 0x and 40 digits, in any case
 * @returns {string} with the checksum of EIP-55
 */
export function checksum(address) {
  if (!/^0x[0-9a-fA-F]{40}$/.test(address)) throw new RangeError("not an address");
  const digits = address.slice(2).toLowerCase();
  const hash = toHex(keccak256(utf8(digits))).slice(2);
  return "0x" + Array.from(digits, (digit, i) => (parseInt(hash[i], 16) > 7 ? digit.toUpperCase() : digit)).join("");
}
