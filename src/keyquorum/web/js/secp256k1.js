/**
 * The curve secp256k1, as far as signatures are looked at: who made one, whether one holds. Nothing secret comes here, so
 * it is written to be read; equations of SEC 1, sections 4.1.4 and 4.1.6.
 * @module
 */
import { concat, fromInteger, toHex, toInteger } from "./bytes.js";
import { checksum, keccak256 } from "./keccak.js";

const P = 2n ** 256n - 2n ** 32n - 977n;
export const N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const G = [
  0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798n,
  0x483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8n,
];

/** @typedef {[bigint, bigint, bigint]} Jacobian x/z², y/z³; z 0 is the point at infinity */

/** @param {bigint} value @param {bigint} [modulus] */
const mod = (value, modulus = P) => ((value % modulus) + modulus) % modulus;

/** @param {bigint} base @param {bigint} exponent @param {bigint} modulus */
function power(base, exponent, modulus) {
  let result = 1n;
  for (let square = mod(base, modulus); exponent; exponent >>= 1n, square = (square * square) % modulus) {
    if (exponent & 1n) result = (result * square) % modulus;
  }
  return result;
}

/** @param {bigint} value @param {bigint} modulus a prime */
const inverse = (value, modulus) => power(value, modulus - 2n, modulus);

/** @param {Jacobian} point @returns {Jacobian} */
function double([x, y, z]) {
  const yy = mod(y * y);
  const s = mod(4n * x * yy);
  const m = mod(3n * x * x);
  const x3 = mod(m * m - 2n * s);
  return [x3, mod(m * (s - x3) - 8n * yy * yy), mod(2n * y * z)];
}

/** @param {Jacobian} one @param {Jacobian} other @returns {Jacobian} */
function add(one, other) {
  if (!one[2]) return other;
  if (!other[2]) return one;
  const [zz1, zz2] = [mod(one[2] * one[2]), mod(other[2] * other[2])];
  const [u1, u2] = [mod(one[0] * zz2), mod(other[0] * zz1)];
  const [s1, s2] = [mod(one[1] * zz2 * other[2]), mod(other[1] * zz1 * one[2])];
  if (u1 === u2) return s1 === s2 ? double(one) : [1n, 1n, 0n];
  const [h, r] = [mod(u2 - u1), mod(s2 - s1)];
  const hh = mod(h * h);
  const hhh = mod(h * hh);
  const v = mod(u1 * hh);
  const x = mod(r * r - hhh - 2n * v);
  return [x, mod(r * (v - x) - s1 * hhh), mod(h * one[2] * other[2])];
}

/** @param {bigint[]} point x, y @param {bigint} times @returns {Jacobian} */
function multiply([x, y], times) {
  /** @type {Jacobian} */
  let result = [1n, 1n, 0n];
  for (let i = 255n; i >= 0n; i--) {
    result = double(result);
    if ((times >> i) & 1n) result = add(result, [x, y, 1n]);
  }
  return result;
}

/** @param {Jacobian} point @returns {bigint[] | undefined} x, y; undefined: infinity */
function affine([x, y, z]) {
  if (!z) return undefined;
  const back = inverse(z, P);
  return [mod(x * back * back), mod(y * back * back * back)];
}

/** @param {bigint} x @returns {bigint | undefined} a y on the curve */
function rootAt(x) {
  const square = mod(x * x * x + 7n);
  const y = power(square, (P + 1n) / 4n, P);
  return x < P && mod(y * y) === square ? y : undefined;
}

/** @param {Uint8Array} key 65 bytes: 4, x, y @returns {bigint[]} throws for what is no point */
function pointOf(key) {
  const [x, y] = [toInteger(key.slice(1, 33)), toInteger(key.slice(33))];
  if (key.length !== 65 || key[0] !== 4 || x >= P || y >= P || mod(x * x * x + 7n) !== mod(y * y)) throw new RangeError("not a public key");
  return [x, y];
}

/** @param {bigint} value */
const isScalar = (value) => value > 0n && value < N;

/**
 * @param {Uint8Array} digest 32 bytes
 * @param {bigint} r
 * @param {bigint} s in the lower half
 * @param {number} v recovery id, 0 to 3
 * @returns {Uint8Array<ArrayBuffer>} the public key, 65 bytes; throws when the signature is none
 */
export function recover(digest, r, s, v) {
  const x = r + BigInt(v >> 1) * N;
  const y = [0, 1, 2, 3].includes(v) && isScalar(r) && isScalar(s) && 2n * s < N ? rootAt(x) : undefined;
  if (y === undefined) throw new RangeError("not a signature");
  const point = [x, Number(y & 1n) === (v & 1) ? y : P - y];
  const back = inverse(r, N);
  const found = affine(add(multiply(point, mod(s * back, N)), multiply(G, mod(-toInteger(digest) * back, N))));
  if (!found) throw new RangeError("not a signature");
  return concat(new Uint8Array([4]), ...found.map((each) => fromInteger(each, 32)));
}

/**
 * @param {Uint8Array} digest 32 bytes
 * @param {bigint} r
 * @param {bigint} s in the lower half
 * @param {Uint8Array} key 65 bytes
 * @returns {boolean}
 */
export function verify(digest, r, s, key) {
  if (!isScalar(r) || !isScalar(s) || 2n * s > N) return false;
  const back = inverse(s, N);
  const found = affine(add(multiply(G, mod(toInteger(digest) * back, N)), multiply(pointOf(key), mod(r * back, N))));
  return found !== undefined && mod(found[0], N) === r;
}

/** @param {Uint8Array} key 65 bytes @returns {string} its Ethereum address, with the checksum */
export const addressOf = (key) => checksum(toHex(keccak256(key.slice(1)).slice(12)));

/** @param {Uint8Array} key 65 bytes @returns {string} the token that stands for it: the hash of the key */
export const tokenOf = (key) => toHex(keccak256(key));
