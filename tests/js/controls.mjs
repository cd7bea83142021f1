// The methods that move a development chain, called by viem's test client and hardhat's network helpers.
// RPC_URL names the chain. The last line is the list of methods that they sent.
import assert from "node:assert/strict";
import helpers from "@nomicfoundation/hardhat-network-helpers";
import hardhat from "hardhat";
import { createTestClient, http, publicActions, walletActions } from "viem";
import { foundry } from "viem/chains";

const sent = new Set();
const nobody = "0x7777777777777777777777777777777777777777";
const transport = http(process.env.RPC_URL, {
  onFetchRequest: async (request) => {
    sent.add((await request.clone().json()).method);
  },
});

for (const mode of ["anvil", "hardhat"]) {
  const client = createTestClient({ mode, chain: foundry, transport, cacheTime: 0 }).extend(publicActions).extend(walletActions);
  const head = async () => client.getBlock({ blockTag: "latest" });
  const start = await head();
  await client.mine({ blocks: 1 });
  await client.mine({ blocks: 3, interval: 60 });
  let block = await head();
  assert.equal(block.number, start.number + 4n);
  assert(block.timestamp >= start.timestamp + 121n);

  const id = await client.snapshot();
  await client.setBalance({ address: nobody, value: 123n });
  assert.equal(await client.getBalance({ address: nobody }), 123n);
  await client.increaseTime({ seconds: 3600 });
  await client.mine({ blocks: 1 });
  assert((await head()).timestamp >= block.timestamp + 3600n);
  await client.setNextBlockTimestamp({ timestamp: block.timestamp + 10_000n });
  await client.mine({ blocks: 1 });
  assert.equal((await head()).timestamp, block.timestamp + 10_000n);
  await client.revert({ id });
  assert.equal((await head()).hash, block.hash);

  const [account] = await client.getAddresses();
  const hash = await client.sendTransaction({ account, to: nobody, value: 1n });
  assert.equal((await client.waitForTransactionReceipt({ hash, pollingInterval: 20 })).status, "success");
  assert.match(await client.signMessage({ account, message: "hello" }), /^0x[0-9a-f]{130}$/);
}
const ganache = createTestClient({ mode: "ganache", chain: foundry, transport }).extend(publicActions);
const before = await ganache.getBlockNumber({ cacheTime: 0 });
await ganache.mine({ blocks: 2 });
assert.equal(await ganache.getBlockNumber({ cacheTime: 0 }), before + 2n);

const { mine, mineUpTo, setBalance, takeSnapshot, time } = helpers;
const height = await time.latestBlock();
await mine();
await mine(3, { interval: 15 });
await mineUpTo(height + 10);
assert.equal(await time.latestBlock(), height + 10);
const snapshot = await takeSnapshot();
const now = await time.latest();
await setBalance(nobody, 77n);
await time.increase(100);
assert((await time.latest()) >= now + 100);
await time.increaseTo(now + 5000);
assert.equal(await time.latest(), now + 5000);
await time.setNextBlockTimestamp(now + 6000);
await mine();
assert.equal(await time.latest(), now + 6000);
await snapshot.restore();
assert.equal(await time.latest(), now);

for (const [method] of hardhat.sent) sent.add(method);
console.log(JSON.stringify([...sent].sort()));
