// The digests that ethers 6 gives to typed data: argument, a JSON list of {domain, types, message}.
import { TypedDataEncoder } from "ethers";

const given = JSON.parse(process.argv[2]);
console.log(JSON.stringify(given.map(({ domain, types, message }) => TypedDataEncoder.hash(domain, types, message))));
