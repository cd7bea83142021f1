// What ethers 6 does with a chain: every type of transaction, deploying, events, errors, and a key's life.
// Arguments: URL, address of PKPNFT, path of its ABI, private key of a funded account, init code of a recorder.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import {
  Contract, ContractFactory, JsonRpcProvider, NonceManager, Wallet, ZeroAddress, concat, getBytes, isError, keccak256, toBeHex,
  verifyMessage,
} from "ethers";

const [url, nftAddress, abiPath, key, recorderCode] = process.argv.slice(2);
const provider = new JsonRpcProvider(url, undefined, { staticNetwork: true, pollingInterval: 50, cacheTimeout: -1 });
const wallet = new Wallet(key, provider);
const nobody = "0x7777777777777777777777777777777777777777";

assert.equal((await provider.getNetwork()).chainId, 31337n);

// Transactions of types 0, 1, 2 and 4; the provider fills in what is missing.
for (const type of [0, 1, 2]) {
  const receipt = await (await wallet.sendTransaction({ to: nobody, value: 1n, type })).wait();
  assert.equal(receipt.status, 1);
  assert.equal(receipt.type, type);
  const seen = await provider.getTransaction(receipt.hash);
  assert.equal(seen.from, wallet.address);
  assert.equal(seen.type, type);
}
const before = await provider.getTransactionCount(wallet.address);
const authorization = await wallet.authorize({ address: nftAddress, nonce: before + 1 });
const delegated = await (await wallet.sendTransaction({ type: 4, to: nobody, authorizationList: [authorization] })).wait();
assert.equal(delegated.type, 4);
assert.equal(await provider.getCode(wallet.address), concat(["0xef0100", nftAddress]).toLowerCase());
const cleared = await wallet.authorize({ address: ZeroAddress, nonce: before + 3 });
await (await wallet.sendTransaction({ type: 4, to: nobody, authorizationList: [cleared] })).wait();
assert.equal(await provider.getCode(wallet.address), "0x");
await assert.rejects(wallet.sendTransaction({ to: nobody, chainId: 1 }));

// A contract is deployed, used by many transactions at once, and its state and logs are read at any block.
const signer = new NonceManager(wallet);
const recorder = await (await new ContractFactory([], recorderCode, signer).deploy()).waitForDeployment();
const address = await recorder.getAddress();
const word = (value) => toBeHex(value, 32);
const sent = await Promise.all(
  [1, 2, 3, 4, 5].map((value) => signer.sendTransaction({ to: address, data: concat([word(9), word(value)]), gasLimit: 100000 })),
);
const receipts = await Promise.all(sent.map((transaction) => transaction.wait()));
const last = receipts.sort((a, b) => a.blockNumber - b.blockNumber).at(-1);
const read = (blockTag) => provider.call({ to: address, data: word(9), blockTag });
assert.equal(await provider.getStorage(address, 9), await read("latest"));
assert.equal(await read(last.blockNumber), await read("finalized"));
assert.equal(await read(receipts[0].blockNumber - 1), word(0));
const logs = await provider.getLogs({ address, fromBlock: 0, topics: [word(9), [word(3), word(4)]] });
assert.deepEqual(new Set(logs.map((log) => BigInt(log.data))), new Set([3n, 4n]));
const block = await provider.getBlock(last.blockHash, true);
assert.equal(block.prefetchedTransactions[0].hash, last.hash);
assert.ok((await provider.getFeeData()).maxFeePerGas > block.baseFeePerGas);

// A key is minted, transferred and read; events arrive by polling; refusals have a name.
const nft = new Contract(nftAddress, JSON.parse(readFileSync(abiPath)), signer);
const arrived = new Promise((resolve) => nft.once("Transfer", (from, to, tokenId) => resolve({ from, to, tokenId })));
const minted = await (await nft.mintNext(2)).wait();
const event = minted.logs.map((log) => nft.interface.parseLog(log)).find((found) => found?.name === "PKPMinted");
const tokenId = event.args.tokenId;
assert.equal(BigInt(keccak256(await nft.getPubkey(tokenId))), tokenId);
assert.equal(await nft.ownerOf(tokenId), wallet.address);
assert.deepEqual(await arrived, { from: ZeroAddress, to: wallet.address, tokenId });
await (await nft.transferFrom(wallet.address, nobody, tokenId)).wait();
assert.equal(await nft.ownerOf(tokenId), nobody);
assert.equal(await nft.ownerOf(tokenId, { blockTag: minted.blockNumber }), wallet.address);
const refusal = await nft.transferFrom.staticCall(wallet.address, nobody, tokenId).catch((error) => error);
assert.ok(isError(refusal, "CALL_EXCEPTION"), refusal);
assert.equal(refusal.revert.name, "ERC721InsufficientApproval");
const unsent = await nft.transferFrom(wallet.address, nobody, tokenId).catch((error) => error);
assert.ok(isError(unsent, "CALL_EXCEPTION"), unsent);
const poor = await Wallet.createRandom(provider).sendTransaction({ to: nobody, value: 1n }).catch((error) => error);
assert.ok(isError(poor, "INSUFFICIENT_FUNDS"), poor);
const stale = await wallet.sendTransaction({ to: nobody, nonce: 0, value: 5n }).catch((error) => error);
assert.ok(isError(stale, "NONCE_EXPIRED"), stale);

// Unlocked accounts, and time that is moved.
const unlocked = await provider.getSigner(7);
assert.equal((await (await unlocked.sendTransaction({ to: nobody, value: 1n })).wait()).status, 1);
assert.equal(verifyMessage("hello", await unlocked.signMessage("hello")), unlocked.address);
const snapshot = await provider.send("evm_snapshot", []);
const { timestamp } = await provider.getBlock("latest");
await provider.send("evm_increaseTime", [3600]);
await provider.send("evm_mine", []);
assert.ok((await provider.getBlock("latest")).timestamp >= timestamp + 3600);
assert.equal(await provider.send("evm_revert", [snapshot]), true);
assert.equal((await provider.getBlock("latest")).timestamp, timestamp);

assert.equal(getBytes(minted.hash).length, 32);
provider.destroy();
console.log(JSON.stringify({ tokenId: tokenId.toString(), owner: nobody }));
