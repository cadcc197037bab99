// Writes vectors.json from the npm packages ethers and siwe; see README.md.
// Everything is fixed, so that a second run writes the same bytes.
import { readFileSync, writeFileSync } from "node:fs";
import { Signature, Wallet, getAddress, hexlify, id, sha256, toUtf8Bytes } from "ethers";
import siwe from "siwe";

const version = (name) => JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;
const { SiweMessage } = siwe;

// Keys that guard nothing: the SHA-256 of a sentence, and the smallest there is.
const wallets = [1, 2, 3].map((n) => new Wallet(sha256(toUtf8Bytes(`agentkeys test wallet ${n}`))));
wallets.push(new Wallet("0x" + "1".padStart(64, "0")));
const [alice, bob] = wallets;

const order = BigInt("0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
const word = (n) => n.toString(16).padStart(64, "0");
const signature = (r, s, v) => "0x" + r + s + v.toString(16).padStart(2, "0");
const split = (sig) => ({ r: sig.slice(2, 66), s: sig.slice(66, 130), v: parseInt(sig.slice(130), 16) });

// --- messages that siwe itself writes, with its own reading of them

const base = {
  domain: "broker.example",
  address: alice.address,
  uri: "https://broker.example",
  version: "1",
  chainId: 1,
  nonce: "K7QJ5ZV2XNOPM3ABCDEFGHIJKL",
  issuedAt: "2026-03-01T12:00:00.000Z",
};
const ours = {
  ...base,
  statement: "Sign in to AgentKeys. This costs nothing and sends no transaction.",
  expirationTime: "2026-03-01T12:45:00.000Z",
  requestId: "siwe-AAAABBBBCCCCDDDDEEEEFFFFGG",
};
const written = {
  "least": base,
  "as the broker writes it": ours,
  "port": { ...ours, domain: "127.0.0.1:8091", uri: "http://127.0.0.1:8091" },
  "localhost": { ...ours, domain: "localhost:8091", uri: "http://localhost:8091" },
  "IPv6": { ...ours, domain: "[::1]:8091", uri: "http://[::1]:8091" },
  "path in the URI": { ...ours, uri: "https://broker.example/keys/" },
  "other chain": { ...ours, chainId: 11155111 },
  "largest exact chain": { ...ours, chainId: Number.MAX_SAFE_INTEGER },
  "statement": { ...base, statement: "I accept the terms: https://example.com/tos?a=1#b" },
  "empty statement": { ...base, statement: "" },
  "scheme": { ...base, scheme: "https" },
  "not before": { ...base, notBefore: "2026-03-01T12:00:00Z" },
  "all fields": { ...ours, notBefore: "2026-03-01T11:59:59.5+01:00", resources: ["ipfs://bafy/", "https://example.com/claim.json"] },
  "no resources": { ...base, resources: [] },
  "request id": { ...base, requestId: "a%20b:c@d!$&'()*+,;=" },
  "short nonce": { ...base, nonce: "12345678" },
  "leap second": { ...base, issuedAt: "2016-12-31T23:59:60Z" },
  "user in the domain": { ...base, domain: "user:word@broker.example" },
  "other URI": { ...base, uri: "did:example:123#key" },
};
const fields = (m) => ({
  scheme: m.scheme ?? null,
  domain: m.domain,
  address: m.address,
  statement: m.statement ?? null,
  uri: m.uri,
  version: m.version,
  chain_id: String(m.chainId),
  nonce: m.nonce,
  issued_at: m.issuedAt,
  expiration_time: m.expirationTime ?? null,
  not_before: m.notBefore ?? null,
  request_id: m.requestId ?? null,
  resources: m.resources ?? null,
});
const messages = [];
for (const [name, object] of Object.entries(written)) {
  const text = new SiweMessage(object).prepareMessage();
  messages.push({ name, message: text, fields: fields(new SiweMessage(text)) });
}

// --- texts that siwe did not write, and whether it reads them

const good = new SiweMessage(ours).prepareMessage();
const plain = new SiweMessage(base).prepareMessage();
const full = new SiweMessage(written["all fields"]).prepareMessage();
const swap = (from, to, text = good) => {
  if (!text.includes(from)) throw new Error(`no ${JSON.stringify(from)} in the message`);
  return text.replace(from, to);
};
const lines = (text, f) => f(text.split("\n")).join("\n");
const stated = (s) => swap(ours.statement, s);
const uri = (u) => swap("URI: https://broker.example", "URI: " + u);
const domain = (d) => swap("broker.example wants", d + " wants");
const issued = (t) => swap("Issued At: 2026-03-01T12:00:00.000Z", "Issued At: " + t);

const texts = {
  "unchanged": good,
  "empty": "",
  "one line": "broker.example wants you to sign in with your Ethereum account:",
  "trailing newline": good + "\n",
  "leading newline": "\n" + good,
  "leading blank": " " + good,
  "trailing blank": good + " ",
  "carriage returns": good.replaceAll("\n", "\r\n"),
  "byte order mark": "\ufeff" + good,
  "NUL at the end": good + "\0",
  "header in capitals": swap("wants you", "WANTS YOU"),
  "header without colon": swap("account:\n", "account\n"),
  "no domain": domain(""),
  "blank in the domain": domain("broker.example evil.example"),
  "slash in the domain": domain("broker.example/path"),
  "query in the domain": domain("broker.example?a"),
  "domain not ASCII": domain("br\u00f6ker.example"),
  "domain percent-encoded": domain("br%C3%B6ker.example"),
  "domain with a bad percent": domain("br%zzker.example"),
  "domain with an empty port": domain("broker.example:"),
  "domain with a word as port": domain("broker.example:port"),
  "domain with two ports": domain("broker.example:80:81"),
  "domain with two users": domain("a@b@broker.example"),
  "domain IPv4 out of range": domain("1.1.1.256"),
  "domain IPv6": domain("[2001:db8::1]"),
  "domain IPv6 with IPv4": domain("[::ffff:192.0.2.1]:443"),
  "domain IPv6 too long": domain("[1:2:3:4:5:6:7:8:9]"),
  "domain IPv6 too short": domain("[1:2:3]"),
  "domain IPv6 two gaps": domain("[1::2::3]"),
  "domain IPv6 with a zone": domain("[fe80::1%25eth0]"),
  "domain IPv6 open": domain("[::1"),
  "domain IPv6 and more": domain("[::1]a"),
  "domain IP of the future": domain("[v1.fe80]"),
  "scheme": domain("https://broker.example"),
  "scheme with a plus": domain("web+agent://broker.example"),
  "scheme empty": domain("://broker.example"),
  "scheme begins with a digit": domain("1http://broker.example"),
  "address in lower case": swap(alice.address, alice.address.toLowerCase()),
  "address in upper case": swap(alice.address, "0x" + alice.address.slice(2).toUpperCase()),
  "address with a capital X": swap(alice.address, "0X" + alice.address.slice(2)),
  "address with a wrong checksum": swap(alice.address, alice.address.slice(0, 2) + [...alice.address.slice(2)].map((c) => (c === c.toUpperCase() ? c.toLowerCase() : c.toUpperCase())).join("")),
  "address too short": swap(alice.address, alice.address.slice(0, -1)),
  "address too long": swap(alice.address, alice.address + "0"),
  "address not hexadecimal": swap(alice.address, alice.address.slice(0, -1) + "g"),
  "address without 0x": swap(alice.address, alice.address.slice(2)),
  "address missing": lines(good, (l) => l.toSpliced(1, 1)),
  "blank after the address": swap(alice.address + "\n", alice.address + " \n"),
  "no empty line after the address": swap(alice.address + "\n\n", alice.address + "\n"),
  "no empty line after the statement": swap(ours.statement + "\n\n", ours.statement + "\n"),
  "statement of two lines": stated("one\ntwo"),
  "statement of a blank": stated(" "),
  "statement missing, one empty line": plain.replace("\n\n\n", "\n\n"),
  "statement missing, three empty lines": plain.replace("\n\n\n", "\n\n\n\n"),
  "statement missing, four empty lines": plain.replace("\n\n\n", "\n\n\n\n\n"),
  "statement with a tab": stated("a\tb"),
  "statement with a quote": stated('say "yes"'),
  "statement with a percent": stated("100% sure"),
  "statement with a backslash": stated("a\\b"),
  "statement with an angle": stated("a < b"),
  "statement with a brace": stated("{a}"),
  "statement not ASCII": stated("caf\u00e9"),
  "statement with all it may hold": stated("azAZ09-._~:/?#[]@!$&'()*+,;= end"),
  "statement that imitates a field": stated("URI: https://evil.example"),
  "URI without a scheme": uri("broker.example"),
  "URI relative": uri("/path"),
  "URI empty": uri(""),
  "URI of a scheme alone": uri("https:"),
  "URI with an empty authority": uri("file:///path"),
  "URI with a path that is rootless": uri("urn:isbn:0451450523"),
  "URI with a query and a fragment": uri("https://broker.example/a/b?c=d/?e#f/?g"),
  "URI with two fragments": uri("https://broker.example/#a#b"),
  "URI with a blank": uri("https://broker.example/a b"),
  "URI with brackets in the path": uri("https://broker.example/[a]"),
  "URI with brackets in the query": uri("https://broker.example/?[a]"),
  "URI with an encoded blank": uri("https://broker.example/a%20b"),
  "URI with half an encoding": uri("https://broker.example/%2"),
  "URI not ASCII": uri("https://broker.example/\u00e9"),
  "URI with a word as port": uri("https://broker.example:port/"),
  "URI with IPv6": uri("https://[::1]:8091/x"),
  "URI with bad IPv6": uri("https://[::g]/"),
  "version 2": swap("Version: 1", "Version: 2"),
  "version 1.0": swap("Version: 1", "Version: 1.0"),
  "version empty": swap("Version: 1", "Version: "),
  "chain in hexadecimal": swap("Chain ID: 1", "Chain ID: 0x1"),
  "chain negative": swap("Chain ID: 1", "Chain ID: -1"),
  "chain with a leading zero": swap("Chain ID: 1", "Chain ID: 01"),
  "chain zero": swap("Chain ID: 1", "Chain ID: 0"),
  "chain empty": swap("Chain ID: 1", "Chain ID: "),
  "chain with a fraction": swap("Chain ID: 1", "Chain ID: 1.5"),
  "nonce of seven": swap(base.nonce, "1234567"),
  "nonce with a dash": swap(base.nonce, "12345678-"),
  "nonce empty": swap(base.nonce, ""),
  "nonce missing": swap("Nonce: " + base.nonce + "\n", ""),
  "nonce twice": swap("Nonce: " + base.nonce + "\n", "Nonce: 12345678\nNonce: 87654321\n"),
  "fields in another order": swap("Version: 1\nChain ID: 1", "Chain ID: 1\nVersion: 1"),
  "field name in lower case": swap("Nonce: ", "nonce: "),
  "field without its blank": swap("Nonce: ", "Nonce:"),
  "field with two blanks": swap("Nonce: ", "Nonce:  "),
  "issued missing": swap("Issued At: 2026-03-01T12:00:00.000Z\n", ""),
  "issued without an offset": issued("2026-03-01T12:00:00"),
  "issued with a blank for T": issued("2026-03-01 12:00:00Z"),
  "issued in lower case": issued("2026-03-01t12:00:00z"),
  "issued with an offset": issued("2026-03-01T12:00:00+05:30"),
  "issued with an offset of a day": issued("2026-03-01T12:00:00+24:00"),
  "issued with an offset without colon": issued("2026-03-01T12:00:00+0530"),
  "issued as a date": issued("2026-03-01"),
  "issued in words": issued("Sun, 01 Mar 2026 12:00:00 GMT"),
  "issued as a number": issued("1772366400"),
  "issued in month 13": issued("2026-13-01T12:00:00Z"),
  "issued in month 0": issued("2026-00-01T12:00:00Z"),
  "issued on February 29": issued("2024-02-29T12:00:00Z"),
  "issued on no February 29": issued("2026-02-29T12:00:00Z"),
  "issued on February 30": issued("2024-02-30T12:00:00Z"),
  "issued on April 31": issued("2026-04-31T12:00:00Z"),
  "issued on day 0": issued("2026-03-00T12:00:00Z"),
  "issued at hour 24": issued("2026-03-01T24:00:00Z"),
  "issued at minute 60": issued("2026-03-01T12:60:00Z"),
  "issued at second 61": issued("2026-03-01T12:00:61Z"),
  "issued with nine decimals": issued("2026-03-01T12:00:00.123456789Z"),
  "issued with a bare point": issued("2026-03-01T12:00:00.Z"),
  "issued with a comma": issued("2026-03-01T12:00:00,5Z"),
  "issued with a long year": issued("12026-03-01T12:00:00Z"),
  "expires on no day": swap("Expiration Time: 2026-03-01", "Expiration Time: 2026-02-30"),
  "expires empty": swap("Expiration Time: 2026-03-01T12:45:00.000Z", "Expiration Time: "),
  "expires after the request id": lines(good, (l) => [...l.slice(0, -2), l.at(-1), l.at(-2)]),
  "not before on no day": swap("Not Before: 2026-03-01", "Not Before: 2026-02-30", full),
  "request id empty": swap(ours.requestId, ""),
  "request id with a slash": swap(ours.requestId, "a/b"),
  "request id with a blank": swap(ours.requestId, "a b"),
  "request id with half an encoding": swap(ours.requestId, "a%2"),
  "request id twice": good + "\nRequest ID: b",
  "resource relative": swap("- ipfs://bafy/", "- /path", full),
  "resource empty": swap("- ipfs://bafy/", "- ", full),
  "resource without a dash": swap("- ipfs://bafy/", "ipfs://bafy/", full),
  "resource without its blank": swap("- ipfs://bafy/", "-ipfs://bafy/", full),
  "resource and an empty line": full + "\n",
  "resources with a blank": swap("Resources:", "Resources: ", full),
  "resources twice": full + "\nResources:\n- ipfs://bafy/",
  "field that is not known": good + "\nAdmin: true",
  "message twice": good + "\n" + good,
};
const readings = Object.entries(texts).map(([name, message]) => {
  try {
    const m = new SiweMessage(message);
    return { name, message, siwe_accepts: true, siwe_writes_back: m.prepareMessage() === message };
  } catch (e) {
    return { name, message, siwe_accepts: false, siwe_writes_back: false };
  }
});

// --- signatures

const signed = {
  "sign-in message": good,
  "sign-in message without statement": plain,
  "empty": "",
  "one letter": "a",
  "nine bytes": "123456789",
  "ten bytes": "1234567890",
  "newlines": "a\nb\r\nc\n",
  "NUL": "a\0b",
  "unicode": "Gr\u00fc\u00dfe, \u4e16\u754c! \ud83d\udd11",
  "combining": "e\u0301 is not \u00e9",
  "a hash in hexadecimal": id("agentkeys"),
  "prefix inside": "\x19Ethereum Signed Message:\n5hello",
  "long": "0123456789abcdef".repeat(256),
};
const signatures = [];
for (const [w, wallet] of wallets.entries()) {
  for (const [name, message] of Object.entries(signed)) {
    signatures.push({ name: `wallet ${w + 1}: ${name}`, wallet: w, message, signature: wallet.signMessageSync(message) });
  }
}

const own = alice.signMessageSync(good);
const { r, s, v } = split(own);
const high = word(order - BigInt("0x" + s));
const half = (order - 1n) / 2n;
const refused = {
  "high s, v flipped": ["high_s_signature", signature(r, high, 55 - v)],
  "high s, v kept": ["high_s_signature", signature(r, high, v)],
  "high s by one": ["high_s_signature", signature(r, word(half + 1n), v)],
  "compact form of EIP-2098": ["signature_malformed", Signature.from(own).compactSerialized],
  "v of 2": ["signature_recovery", signature(r, s, 2)],
  "v of 26": ["signature_recovery", signature(r, s, 26)],
  "v of 29": ["signature_recovery", signature(r, s, 29)],
  "v of 30": ["signature_recovery", signature(r, s, 30)],
  "v of 31, a compressed key": ["signature_recovery", signature(r, s, v + 4)],
  "v of 37, EIP-155 for chain 1": ["signature_recovery", signature(r, s, v + 10)],
  "v of 255": ["signature_recovery", signature(r, s, 255)],
  "v of 229, which is -27": ["signature_recovery", signature(r, s, 229)],
  "v of the other key": ["wrong_signer", signature(r, s, 55 - v)],
  "r of zero": ["bad_signature", signature(word(0n), s, v)],
  "s of zero": ["bad_signature", signature(r, word(0n), v)],
  "r of the order": ["bad_signature", signature(word(order), s, v)],
  "s of the order": ["bad_signature", signature(r, word(order), v)],
  "r beyond the order": ["bad_signature", signature("f".repeat(64), s, v)],
  "r that is on no point": ["bad_signature", signature(word(5n), s, v)],
  "all zero": ["bad_signature", signature(word(0n), word(0n), 27)],
  "empty": ["signature_malformed", ""],
  "0x alone": ["signature_malformed", "0x"],
  "without 0x": ["signature_malformed", own.slice(2)],
  "capital X": ["signature_malformed", "0X" + own.slice(2)],
  "one digit short": ["signature_malformed", own.slice(0, -1)],
  "one byte short": ["signature_malformed", own.slice(0, -2)],
  "one byte more": ["signature_malformed", own + "00"],
  "v of two bytes": ["signature_malformed", own.slice(0, 130) + "0025"],
  "not hexadecimal": ["signature_malformed", own.slice(0, -3) + "g" + own.slice(-2)],
  "blank before": ["signature_malformed", " " + own],
  "newline after": ["signature_malformed", own + "\n"],
  "0x twice": ["signature_malformed", "0x" + own.slice(0, -2)],
  "DER": ["signature_malformed", "0x3044" + "0220" + r + "0220" + s],
  "by another wallet": ["wrong_signer", bob.signMessageSync(good)],
  "over another nonce": ["wrong_signer", alice.signMessageSync(good.replace(base.nonce, "A".repeat(26)))],
  "over another chain": ["wrong_signer", alice.signMessageSync(good.replace("Chain ID: 1", "Chain ID: 10"))],
  "over another domain": ["wrong_signer", alice.signMessageSync(good.replaceAll("broker.example", "evil.example"))],
  "over the message and a newline": ["wrong_signer", alice.signMessageSync(good + "\n")],
  "over the message with carriage returns": ["wrong_signer", alice.signMessageSync(good.replaceAll("\n", "\r\n"))],
  "over the message in hexadecimal": ["wrong_signer", alice.signMessageSync(hexlify(toUtf8Bytes(good)))],
  "over the hash without the prefix": ["wrong_signer", alice.signingKey.sign(id(good)).serialized],
};
const allowed = {
  "v of 27 or 28": own,
  "v of 0 or 1": signature(r, s, v - 27),
  "digits in upper case": "0x" + own.slice(2).toUpperCase(),
};

const vectors = {
  made_with: { ethers: version("ethers"), siwe: version("siwe"), "@spruceid/siwe-parser": version("@spruceid/siwe-parser") },
  wallets: wallets.map((w) => ({ private_key: w.privateKey, address: getAddress(w.address) })),
  messages,
  readings,
  signatures,
  answers: {
    wallet: 0,
    message: good,
    allowed: Object.entries(allowed).map(([name, signature]) => ({ name, signature })),
    refused: Object.entries(refused).map(([name, [code, signature]]) => ({ name, code, signature })),
  },
};
writeFileSync(new URL("vectors.json", import.meta.url), JSON.stringify(vectors, null, 1) + "\n");
