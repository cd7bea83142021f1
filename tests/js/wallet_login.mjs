// What ethers 6 makes of a login statement: the hashes of its two forms, and a wallet's signatures over them.
// Arguments: private key; the typed data as JSON; the text. Prints one line of JSON.
import { TypedDataEncoder, Wallet, hashMessage } from "ethers";

const [key, typed, text] = process.argv.slice(2);
const wallet = new Wallet(key);
const { domain, primaryType, types: { EIP712Domain, ...types }, message } = JSON.parse(typed);
console.log(JSON.stringify({
  domainFields: EIP712Domain.map(({ name }) => name),
  primaryType: TypedDataEncoder.from(types).primaryType === primaryType,
  domain: TypedDataEncoder.hashDomain(domain),
  message: TypedDataEncoder.from(types).hash(message),
  digest: TypedDataEncoder.hash(domain, types, message),
  textDigest: hashMessage(text),
  eip712: await wallet.signTypedData(domain, types, message),
  eip191: await wallet.signMessage(text),
}));
