// A certified OpenID Connect provider (npm oidc-provider) on 127.0.0.1, with its development login form.
//
// Reads one JSON line at a time from stdin: {"jwks": {...}} makes it sign with these keys from now on. It prints the
// port it listens on once, and "rotated" after each further line; it ends when stdin does.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import Provider from "oidc-provider";

let handle = null;
const server = createServer((request, response) => handle(request, response));
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const native = { application_type: "native", redirect_uris: ["http://127.0.0.1/callback"] };
const clients = [
  { ...native, client_id: "public-app", token_endpoint_auth_method: "none" },
  { ...native, client_id: "other-app", token_endpoint_auth_method: "none" },
  { ...native, client_id: "desktop-app", client_secret: "in-every-copy", token_endpoint_auth_method: "client_secret_post" },
  {
    ...native,
    client_id: "implicit-app",
    token_endpoint_auth_method: "none",
    response_types: ["id_token"],
    grant_types: ["implicit"],
  },
  {
    ...native,
    client_id: "page-app",
    redirect_uris: ["http://localhost/"],
    token_endpoint_auth_method: "none",
    response_types: ["id_token"],
    grant_types: ["implicit"],
  },
];

function provider(jwks) {
  return new Provider(issuer, {
    clients,
    jwks,
    cookies: { keys: ["only in tests"] },
    responseTypes: ["code", "id_token"],
    ttl: { IdToken: 600, AuthorizationCode: 60, Interaction: 600, Session: 600, Grant: 600, AccessToken: 600 },
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  const first = handle === null;
  handle = provider(JSON.parse(line).jwks).callback();
  console.log(first ? `port ${server.address().port}` : "rotated");
}
process.exit(0);
