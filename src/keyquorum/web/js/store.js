/**
 * What this browser remembers, in IndexedDB: the session (its key cannot be read out, not even by this page), the login
 * that waits for a provider's answer, and the public keys of passkeys made here.
 * @module
 */

const NAME = "keyquorum";
const STORE = "values";

/** @type {Promise<IDBDatabase> | undefined} */
let opened;

const open = () =>
  (opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  }));

/**
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest} act
 * @returns {Promise<any>}
 */
async function run(mode, act) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(STORE, mode);
    const request = act(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = () => reject(transaction.error);
    transaction.onabort = () => reject(transaction.error);
  });
}

/** @param {string} name */
export const load = (name) => run("readonly", (store) => store.get(name));

/** @param {string} name @param {any} value of any kind that IndexedDB keeps, keys included */
export const save = (name, value) => run("readwrite", (store) => store.put(value, name));

/** @param {string} name */
export const forget = (name) => run("readwrite", (store) => store.delete(name));
