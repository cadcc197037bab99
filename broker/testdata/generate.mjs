// Writes calls.json: calls signed by the npm package ethers; see README.md.
// Everything is fixed, so that a second run writes the same bytes.
import { readFileSync, writeFileSync } from "node:fs";
import { Signature, Wallet, getAddress, sha256, toUtf8Bytes } from "ethers";

const version = (name) => JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;

// Keys that guard nothing: the SHA-256 of a sentence.
const [alice, bob] = [1, 2].map((n) => new Wallet(sha256(toUtf8Bytes(`agentkeys test wallet ${n}`))));

const method = "POST";
const issuer = "https://broker.example";
const url = issuer + "/v1/mint-aws-creds";

// RFC 8785 for what a call may hold (strings and whole numbers within 2^53): it
// takes the serialisation of ECMAScript, with the names sorted by UTF-16 units,
// which is what sort() does without an argument.
const canonical = (v) => {
  if (Array.isArray(v)) return "[" + v.map(canonical).join(",") + "]";
  if (v === null || typeof v !== "object") return JSON.stringify(v);
  return "{" + Object.keys(v).sort().map((k) => JSON.stringify(k) + ":" + canonical(v[k])).join(",") + "}";
};
const without = (body) => {
  const { signature, ...auth } = body.auth;
  return { ...body, auth };
};
const callText = (body, m = method, u = url) => canonical({ method: m, url: u, body: without(body) });

const plain = () => ({
  request_id: "call-K7QJ5ZV2XNOPM3ABCDEFGHIJKL",
  issued_at: "2026-03-01T12:00:00Z",
  intent: { agent_id: "agent-7", service: "s3", scope_path: "reports/2026", grant_id: "grn-AAAABBBBCCCCDDDDEEEEFFFFGG" },
  auth: { address: alice.address, signature: "" },
});
// changed is a plain call with members changed: undefined takes one out.
const changed = (intent = {}, outer = {}, auth = {}) => {
  const body = plain();
  Object.assign(body, outer);
  Object.assign(body.intent, intent);
  Object.assign(body.auth, auth);
  return JSON.parse(JSON.stringify(body));
};
const sign = (body, wallet = alice, text = callText(body)) => {
  body.auth.signature = wallet.signMessageSync(text);
  return body;
};

const byte = (n) => n.toString(16).padStart(2, "0");

// --- calls to be accepted: the body as it is sent, and the text that was signed

const shuffled = (body) => {
  const { request_id, issued_at, intent, auth } = body;
  return {
    auth: { signature: auth.signature, address: auth.address },
    intent: { scope_path: intent.scope_path, grant_id: intent.grant_id, service: intent.service, agent_id: intent.agent_id },
    issued_at,
    request_id,
  };
};
// escaped writes every character of every string, names included, as \u escapes.
const escaped = (text) =>
  text.replace(/"((?:[^"\\]|\\.)*)"/g, (s) =>
    '"' + [...JSON.parse(s)].flatMap((c) => c.split("")).map((u) => "\\u" + u.charCodeAt(0).toString(16).padStart(4, "0")).join("") + '"');

const accepted = [];
const accept = (name, body, write = JSON.stringify, m = method, u = url) => {
  sign(body, alice, callText(body, m, u));
  accepted.push({ name, method: m, url: u, body: write(body), text: callText(body, m, u), address: alice.address.toLowerCase() });
};
accept("with a grant", changed());
accept("without a grant", changed({ grant_id: undefined }));
accept("Unix seconds", changed({}, { issued_at: 1772366400 }));
accept("issued with an offset", changed({}, { issued_at: "2026-03-01T17:30:00+05:30" }));
accept("address in lower case", changed({}, {}, { address: alice.address.toLowerCase() }));
accept("members in another order", changed(), (b) => JSON.stringify(shuffled(b)));
accept("white space", changed(), (b) => "\r\n\t " + JSON.stringify(shuffled(b), null, "\t").replaceAll("\n", "\r\n") + " \n");
accept("everything escaped", changed({ agent_id: "Gr\u00fc\u00dfe \ud83d\udd11" }), (b) => escaped(JSON.stringify(b)));
accept("unicode", changed({ agent_id: "Gr\u00fc\u00dfe, \u4e16\u754c! \ud83d\udd11 e\u0301 is not \u00e9" }));
accept("controls and quotes", changed({ agent_id: "\b\t\n\f\r\u0000\u001f\u007f\"\\/'" }));
accept("slashes escaped", changed({ agent_id: "a/b" }), (b) => JSON.stringify(b).replaceAll("/", "\\/"));
accept("text that scripts fear", changed({ agent_id: "</script><!-- & \u2028\u2029\ufeff\ufffd" }));
accept("braces inside a string", changed({ agent_id: '"},"auth":{"signature":"0x"},{[' }));
accept("a name inside a string", changed({ agent_id: "signature", scope_path: "auth/signature" }));
accept("empty strings", changed({ agent_id: "", scope_path: "" }));
accept("a local issuer", changed(), JSON.stringify, method, "http://127.0.0.1:8091/v1/mint-aws-creds");
accept("an issuer with a path", changed(), JSON.stringify, method, issuer + "/keys/v1/mint-aws-creds");
accept("signature without v of 27 or 28", changed(), (b) => {
  const s = b.auth.signature;
  return JSON.stringify({ ...b, auth: { ...b.auth, signature: s.slice(0, 130) + byte(parseInt(s.slice(130), 16) - 27) } });
});

// --- calls to be refused: what is wrong with them, and with which code

const refused = [];
const refuse = (name, body, code = "call_signature", write = JSON.stringify) => refused.push({ name, method, url, body: write(body), code });
const good = () => sign(changed());

refuse("for another broker", sign(changed(), alice, callText(changed(), method, "https://other.example/v1/mint-aws-creds")));
refuse("for this broker over http", sign(changed(), alice, callText(changed(), method, url.replace("https", "http"))));
refuse("for another path", sign(changed(), alice, callText(changed(), method, issuer + "/v1/mint-oidc-jwt")));
refuse("for the path with a slash", sign(changed(), alice, callText(changed(), method, url + "/")));
refuse("for the path with a query", sign(changed(), alice, callText(changed(), method, url + "?a=1")));
refuse("for another method", sign(changed(), alice, callText(changed(), "PUT")));
refuse("for the method in lower case", sign(changed(), alice, callText(changed(), "post")));
const after = (change) => {
  const body = good();
  change(body);
  return body;
};
refuse("request_id changed", after((b) => (b.request_id = "call-AAAAAAAAAAAAAAAAAAAAAAAAAA")));
refuse("issued_at changed", after((b) => (b.issued_at = "2026-03-01T12:00:01Z")));
refuse("issued_at written another way", after((b) => (b.issued_at = 1772366400)));
refuse("agent_id changed", after((b) => (b.intent.agent_id = "agent-8")));
refuse("agent_id in another form of Unicode", (() => {
  const body = sign(changed({ agent_id: "\u00e9" }));
  body.intent.agent_id = "e\u0301";
  return body;
})());
refuse("service changed", after((b) => (b.intent.service = "s4")));
refuse("scope_path changed", after((b) => (b.intent.scope_path = "reports")));
refuse("grant_id changed", after((b) => (b.intent.grant_id = "grn-HHHHBBBBCCCCDDDDEEEEFFFFGG")));
refuse("grant_id taken out", after((b) => delete b.intent.grant_id));
refuse("grant_id put in", (() => {
  const body = sign(changed({ grant_id: undefined }));
  body.intent.grant_id = plain().intent.grant_id;
  return body;
})());
refuse("address changed", after((b) => (b.auth.address = bob.address)));
refuse("address in another case than signed", after((b) => (b.auth.address = b.auth.address.toLowerCase())));
refuse("address with a wrong checksum", after((b) => (b.auth.address = getAddress(bob.address).replace(/[a-f]/, (c) => c.toUpperCase()))), "address_checksum");
refuse("address too short", after((b) => (b.auth.address = b.auth.address.slice(0, -1))), "address_malformed");
refuse("by another wallet", sign(changed(), bob));
refuse("of another call", after((b) => (b.auth.signature = sign(changed({ agent_id: "agent-8" })).auth.signature)));
refuse("over the body with a signature member", sign(changed(), alice, canonical({ method, url, body: changed() })));
refuse("over a signed body", sign(changed(), alice, canonical({ method, url, body: good() })));
refuse("over the body alone", sign(changed(), alice, canonical(without(changed()))));
const { auth, ...withoutAuth } = plain();
refuse("over the body without auth", sign(changed(), alice, canonical({ method, url, body: withoutAuth })));
refuse("over JSON in the order of writing", sign(changed(), alice, JSON.stringify({ method, url, body: without(changed()) })));
refuse("over JSON with white space", sign(changed(), alice, JSON.stringify(JSON.parse(callText(changed())), null, 1)));
refuse("over the text and a newline", sign(changed(), alice, callText(changed()) + "\n"));
refuse("over JSON with escapes that RFC 8785 has not", sign(changed({ agent_id: "\u00e9" }), alice, callText(changed({ agent_id: "\u00e9" })).replace("\u00e9", "\\u00e9")));
refuse("over the hash without the prefix", after((b) => (b.auth.signature = alice.signingKey.sign(sha256(toUtf8Bytes(callText(changed())))).serialized)));

const order = BigInt("0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
const own = good().auth.signature;
const [r, s, v] = [own.slice(2, 66), own.slice(66, 130), parseInt(own.slice(130), 16)];
const high = (order - BigInt("0x" + s)).toString(16).padStart(64, "0");
const withSignature = (signature) => after((b) => (b.auth.signature = signature));
refuse("compact form of EIP-2098", withSignature(Signature.from(own).compactSerialized));
refuse("high s, v flipped", withSignature("0x" + r + high + byte(55 - v)));
refuse("high s, v kept", withSignature("0x" + r + high + byte(v)));
refuse("v of the other key", withSignature("0x" + r + s + byte(55 - v)));
refuse("v of 37, EIP-155 for chain 1", withSignature("0x" + r + s + byte(v + 10)));
refuse("without 0x", withSignature(own.slice(2)));
refuse("newline after", withSignature(own + "\n"));
refuse("empty signature", withSignature(""));

// What reads as the signed call to a lenient reader, and is not what was signed.
const written = (change) => (body) => change(JSON.stringify(body));
const swap = (from, to) => written((text) => {
  if (!text.includes(from)) throw new Error(`no ${from} in the body`);
  return text.replace(from, to);
});
refuse("member that nobody signed", good(), "unknown_field", swap("{", '{"admin":true,'));
refuse("member that nobody signed, in intent", good(), "unknown_field", swap('"intent":{', '"intent":{"admin":true,'));
refuse("signature in the wrong place as well", good(), "unknown_field", swap("{", '{"signature":"0x",'));
refuse("name in another case", good(), "unknown_field", swap('"scope_path"', '"Scope_Path":"","scope_path"'));
refuse("name that folds to another", good(), "unknown_field", swap('"scope_path"', '"\u017fcope_path":"","scope_path"'));
refuse("scope_path twice", good(), "bad_request", swap('"scope_path"', '"scope_path":"","scope_path"'));
refuse("scope_path twice, once escaped", good(), "bad_request", swap('"scope_path"', '"scope\\u005fpath":"","scope_path"'));
refuse("signature twice", good(), "bad_request", swap('"signature"', '"signature":"0x","signature"'));
refuse("auth twice", good(), "bad_request", swap('"auth"', '"auth":{"address":"","signature":""},"auth"'));
refuse("half of a surrogate pair", good(), "bad_request", swap("agent-7", "\\ud83d"));
refuse("issued_at that rounds", sign(changed({}, { issued_at: 9007199254740992 })), "bad_request", swap("9007199254740992", "9007199254740993"));
refuse("issued_at with an exponent", sign(changed({}, { issued_at: 1772366400 })), "bad_request", swap("1772366400", "1.7723664e9"));
refuse("without a signature", good(), "bad_request", written((text) => text.replace(/,"signature":"[^"]*"/, "")));
refuse("signature null", good(), "bad_request", written((text) => text.replace(/"signature":"[^"]*"/, '"signature":null')));

writeFileSync(new URL("calls.json", import.meta.url), JSON.stringify({ made_with: { ethers: version("ethers") }, accepted, refused }, null, 1) + "\n");
