// ethers 6 as a stranger's wallet on a running network's chain: mints a key, reads it, gives it away.
// Arguments: URL, address of PKPNFT, path of its ABI, file with the private key of a funded account, who gets the key.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Contract, JsonRpcProvider, Wallet, computeAddress, hexlify, keccak256 } from "ethers";

const [url, nftAddress, abiPath, keyPath, receiver] = process.argv.slice(2);
const provider = new JsonRpcProvider(url, undefined, { staticNetwork: true, pollingInterval: 50, cacheTimeout: -1 });
const wallet = new Wallet(readFileSync(keyPath, "utf8").trim(), provider);
const nft = new Contract(nftAddress, JSON.parse(readFileSync(abiPath)), wallet);

const minted = await (await nft.mintNext(2, { value: await nft.mintCost() })).wait();
const event = minted.logs.map((log) => nft.interface.parseLog(log)).find((found) => found?.name === "PKPMinted");
const tokenId = event.args.tokenId;
const publicKey = await nft.getPubkey(tokenId);
assert.equal(BigInt(keccak256(publicKey)), tokenId);
assert.equal(await nft.getEthAddress(tokenId), computeAddress(publicKey));
assert.equal(await nft.ownerOf(tokenId), wallet.address);
const count = await nft.balanceOf(wallet.address);
assert.equal(await nft.tokenOfOwnerByIndex(wallet.address, count - 1n), tokenId);

console.log(JSON.stringify({ tokenId: hexlify("0x" + tokenId.toString(16).padStart(64, "0")), publicKey }));
if (receiver) {
  const moved = await (await nft["safeTransferFrom(address,address,uint256)"](wallet.address, receiver, tokenId)).wait();
  assert.equal(moved.status, 1);
  assert.equal(await nft.ownerOf(tokenId), receiver);
}
provider.destroy();
