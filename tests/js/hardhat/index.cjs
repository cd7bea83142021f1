// What hardhat's network helpers ask of hardhat: the provider of a network, here of the chain at RPC_URL.
// It sends what they send, as it is, and notes every call in `sent`. Only the name is its own: the helpers work with
// nothing that is not called hardhat, anvil or zksync.
const sent = [];

async function request({ method, params = [] }) {
  if (method === "web3_clientVersion") return "HardhatNetwork/2.28.0";
  sent.push([method, params]);
  const answer = await fetch(process.env.RPC_URL, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ jsonrpc: "2.0", id: sent.length, method, params }),
  });
  const { result, error } = await answer.json();
  if (error) throw new Error(`${method} ${JSON.stringify(params)}: ${error.message}`);
  return result;
}

module.exports = { sent, network: { name: "hardhat", provider: { request } } };
