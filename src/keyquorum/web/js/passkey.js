/**
 * Passkeys: made and used with the browser's WebAuthn API; the proof of method `passkey`.
 *
 * An assertion does not contain the public key, and nodes want it. A browser that made the passkey remembers it. Another
 * one asks the gateway, which reads the chain, where anybody may have written: the key is the one under which the
 * passkey's own signature holds.
 * @module
 */
import { concat, equal, fromBase64url, fromInteger, random, sha256, toBase64url, toHex, toInteger } from "./bytes.js";
import { get, Refused } from "./gateway.js";
import { load, save } from "./store.js";
import { Tag, taggedHash } from "./transcript.js";

const ES256 = -7;
const EDDSA = -8;
const RS256 = -257;
const CREDENTIAL_AT = 55;
const HAS_EXTENSIONS = 0x80;
const TIMEOUT = 120_000;
const MOST_IN_A_PAGE = 256;
const MOST_PAGES = 1000;
const MOST_TRIES = 5;
const PAUSE = 500;

/** @param {string} credentialId base64url */
const remembered = (credentialId) => `passkey:${credentialId}`;

/**
 * Make a passkey at this device, and remember its public key.
 * @param {string} rpId
 * @param {string} name what the authenticator's list shows
 */
export async function create(rpId, name) {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON({
    rp: { id: rpId, name: "Keyquorum" },
    user: { id: toBase64url(random(16)), name, displayName: name },
    challenge: toBase64url(random(32)),
    pubKeyCredParams: [ES256, EDDSA, RS256].map((alg) => ({ type: "public-key", alg })),
    authenticatorSelection: { residentKey: "required", requireResidentKey: true, userVerification: "required" },
    attestation: "none",
    timeout: TIMEOUT,
  });
  const made = /** @type {PublicKeyCredential | null} */ (await navigator.credentials.create({ publicKey }));
  if (!made) throw new Error("the browser made no passkey");
  const response = /** @type {AuthenticatorAttestationResponse} */ (made.response);
  const key = publicKeyOf(new Uint8Array(response.getAuthenticatorData()));
  await save(remembered(toBase64url(made.rawId)), toBase64url(key));
  return made.rawId;
}

/**
 * @param {Uint8Array} data authenticator data of a creation (WebAuthn Level 3, section 6.1)
 * @returns {Uint8Array} the COSE key
 */
export function publicKeyOf(data) {
  const length = Number(toInteger(data.slice(CREDENTIAL_AT - 2, CREDENTIAL_AT)));
  const rest = data.slice(CREDENTIAL_AT + length);
  return data[32] & HAS_EXTENSIONS ? rest.slice(0, coseLength(rest)) : rest;
}

/** Canonical beginnings of COSE keys, and how many bytes follow; the forms of `auth/cose.py`. */
const FORMS = [
  { alg: ES256, start: "0xa5010203262001215820", length: () => 67 },
  { alg: EDDSA, start: "0xa4010103272006215820", length: () => 32 },
  { alg: RS256, start: "0xa40103033901002059", length: (/** @type {Uint8Array} */ rest) => 7 + Number(toInteger(rest.slice(0, 2))) },
];

/** @param {Uint8Array} key */
function formOf(key) {
  const hex = toHex(key);
  const form = FORMS.find(({ start }) => hex.startsWith(start));
  if (!form) throw new Error("this passkey has a kind of key that the network does not accept");
  return form;
}

/** @param {Uint8Array} key that something may follow */
function coseLength(key) {
  const { start, length } = formOf(key);
  const head = (start.length - 2) / 2;
  return head + length(key.slice(head));
}

/**
 * Let a passkey sign the challenge.
 * @param {string} rpId
 * @param {Uint8Array<ArrayBuffer>} challenge 32 bytes
 * @param {BufferSource[]} [allowed] credential ids; none: any passkey that the person chooses
 * @returns {Promise<Record<string, string>>} the proof of method `passkey`
 */
export async function prove(rpId, challenge, allowed = []) {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON({
    rpId,
    challenge: toBase64url(challenge),
    userVerification: "required",
    timeout: TIMEOUT,
  });
  publicKey.allowCredentials = allowed.map((id) => ({ type: "public-key", id }));
  const found = /** @type {PublicKeyCredential | null} */ (await navigator.credentials.get({ publicKey }));
  if (!found) throw new Error("no passkey was chosen");
  const response = /** @type {AuthenticatorAssertionResponse} */ (found.response);
  const assertion = {
    credential_id: toBase64url(found.rawId),
    client_data_json: toBase64url(response.clientDataJSON),
    authenticator_data: toBase64url(response.authenticatorData),
    signature: toBase64url(response.signature),
  };
  return { ...assertion, public_key: toBase64url(await keyOf(assertion)) };
}

/**
 * A page of the gateway's directory; whoever put many keys before the right one must not use up what may be looked up.
 * @param {string} credentialId
 * @param {number} page
 * @returns {Promise<any>}
 */
async function directory(credentialId, page) {
  for (let tries = 1; ; tries++) {
    try {
      return await get(`/v1/passkeys/${credentialId}?page=${page}`);
    } catch (error) {
      if (!(error instanceof Refused) || error.code !== "too_many_requests" || tries === MOST_TRIES) throw error;
      await new Promise((over) => setTimeout(over, PAUSE * tries));
    }
  }
}

/** @param {any} text that anybody may have written @returns {Uint8Array | undefined} what is no key hides no other */
function asKey(text) {
  try {
    return fromBase64url(text);
  } catch {
    return undefined;
  }
}

/**
 * @param {{credential_id: string, client_data_json: string, authenticator_data: string, signature: string}} assertion
 * @returns {Promise<Uint8Array>} the COSE key under which the assertion holds
 */
async function keyOf(assertion) {
  const known = await load(remembered(assertion.credential_id));
  if (known) return fromBase64url(known);
  for (let page = 0, more = true; more && page < MOST_PAGES; page++) {
    const told = await directory(assertion.credential_id, page);
    const named = [told.public_key, ...(Array.isArray(told.others) ? told.others : [])].slice(0, MOST_IN_A_PAGE);
    for (const text of named) {
      const key = asKey(text);
      if (key && (await holds(key, assertion))) {
        await save(remembered(assertion.credential_id), text);
        return key;
      }
    }
    more = told.more === true;
  }
  throw new Error("this passkey is not registered with the network: create a key with it, or add it to yours, where it was made");
}

/**
 * @param {Uint8Array} key COSE
 * @param {{client_data_json: string, authenticator_data: string, signature: string}} assertion
 * @returns {Promise<boolean>}
 */
export async function holds(key, assertion) {
  const digest = await sha256(fromBase64url(assertion.client_data_json));
  const signed = concat(fromBase64url(assertion.authenticator_data), digest);
  const signature = fromBase64url(assertion.signature);
  try {
    const { alg } = formOf(key);
    const [algorithm, jwk] = described(key, alg);
    const imported = await crypto.subtle.importKey("jwk", jwk, algorithm, false, ["verify"]);
    return await crypto.subtle.verify(algorithm, imported, alg === ES256 ? fromDer(signature) : signature, signed);
  } catch {
    return false;
  }
}

/**
 * @param {Uint8Array} key
 * @param {number} alg
 * @returns {[any, JsonWebKey]}
 */
function described(key, alg) {
  const text = (/** @type {number} */ from, /** @type {number} */ to) => toBase64url(key.slice(from, to));
  if (alg === ES256) return [{ name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" }, { kty: "EC", crv: "P-256", x: text(10, 42), y: text(45, 77) }];
  if (alg === EDDSA) return [{ name: "Ed25519" }, { kty: "OKP", crv: "Ed25519", x: text(10, 42) }];
  return [{ name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" }, { kty: "RSA", n: text(11, key.length - 5), e: "AQAB" }];
}

/**
 * @param {Uint8Array} der SEQUENCE of two INTEGERs
 * @returns {Uint8Array<ArrayBuffer>} r and s, 32 bytes each, as WebCrypto takes them
 */
export function fromDer(der) {
  const middle = 4 + der[3];
  const parts = [der.slice(4, middle), der.slice(middle + 2)].map((part) => fromInteger(toInteger(part), 32));
  const again = concat(...parts);
  if (!equal(toDer(again), der)) throw new RangeError("not the DER of a signature");
  return again;
}

/** @param {Uint8Array} compact r and s, 32 bytes each */
export function toDer(compact) {
  const numbers = [compact.slice(0, 32), compact.slice(32)].map((part) => {
    const bare = fromInteger(toInteger(part));
    const signed = bare.length === 0 || bare[0] & 0x80 ? concat(new Uint8Array(1), bare) : bare;
    return concat(new Uint8Array([2, signed.length]), signed);
  });
  const content = concat(...numbers);
  return concat(new Uint8Array([0x30, content.length]), content);
}

/**
 * @param {string} rpId
 * @param {Record<string, string>} proof
 * @returns {Promise<string>} 0x, what stands for this passkey in the permission contract
 */
export const identity = async (rpId, proof) =>
  toHex(await taggedHash(Tag.PASSKEY_ID, rpId, fromBase64url(proof.credential_id), fromBase64url(proof.public_key)));

/**
 * @param {Record<string, string>} proof
 * @returns {string} 0x: the COSE key followed by the credential id, which a permission on the chain carries
 */
export const userPublicKey = (proof) => toHex(concat(fromBase64url(proof.public_key), fromBase64url(proof.credential_id)));
