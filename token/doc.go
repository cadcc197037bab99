// Package token holds the broker's signing keys and the two kinds of token
// that they sign. Private keys live nowhere else.
//
// A session token is for the broker alone: the session key signs it, its typ
// is "agentkeys-session+jwt" and its audience is [SessionAudience]. A web
// identity token is for AWS STS alone: the OIDC key signs it, its typ is "JWT"
// and its audience is the one that the OIDC provider at AWS is registered for.
// The kinds differ in key, typ and audience, so that a mistake in one check
// still leaves two that tell them apart.
//
// Both are JWTs (RFC 7519) in the compact serialisation of JWS (RFC 7515),
// signed with ES256 (RFC 7518, section 3.4). No other algorithm exists for them.
//
// The session key also signs what was granted ([GrantProofs]), with a typ of its own
// that makes no session, and from it comes the key of what is kept sealed ([Sealer]).
//
// An [AuditKey] signs no token. It signs the heads of the audit log, with Ed25519,
// which every reader of signed notes (C2SP) knows, and makes the pseudonyms in the
// log's records.
//
// What this package keeps safe: a token is believed only after its signature,
// and a session's claims are read only then. A key serves one purpose, and a
// key file that others can read is refused. Tokens and keys do not print.
//
// What it does not: it knows nothing of revocation ([Sessions.Forget] only
// drops what is remembered), it does not see that an audit key signs two logs
// that contradict each other, it does not keep a private key out of a core dump
// or out of swap, and whoever may write to the folder of a key file can put
// another key in its place.
package token
