// Package localaws is an AWS of one account and one region on one endpoint:
// STS, IAM and S3 over their real wire protocols, with every call authorised by
// package policy as AWS would.
//
// It keeps safe what AWS keeps safe: a request is served only under a verified
// signature (or, for AssumeRoleWithWebIdentity, a verified web identity token
// of a registered issuer), and only as far as identity policies, permissions
// boundary, session policies and resource policies allow at that moment. It
// knows an issuer by nothing but its discovery document and public key set,
// fetched over HTTP.
//
// It does not keep its own state folder safe from who can read it: that folder
// holds the secret access keys and the key that seals session tokens, in files
// only the owner can read. Nor is it a service to put on a network: it speaks
// plain HTTP and belongs on loopback.
//
// STS has AssumeRole, AssumeRoleWithWebIdentity and GetCallerIdentity. IAM has
// the calls on OIDC providers, roles, users, access keys, groups, inline and
// managed policies, permissions boundaries and tags, and
// GetAccountAuthorizationDetails; stsOperations and iamOperations name them
// all. Any other call gets InvalidAction, as at AWS. There are no credentials
// of the account's root user, and no sessions of users: GetSessionToken and
// GetFederationToken get InvalidAction too, or, from a session, the refusal that
// AWS has for it.
//
// A bucket is in the path, or in the host before .s3.REGION.amazonaws.com and
// its like or before .s3.localhost. Before a bare .localhost stands a bucket
// only if there is one of that name or the request makes it, since the endpoint
// itself may be called so. A request to a bucket's host is S3's, whatever it
// looks like.
//
// Sessions are kept nowhere: a session token is the session, sealed under the
// state folder's key, and is good until the time written in it, by the clock of
// Config.Now. A clock that is set back by some time therefore lengthens the
// sessions that exist by as much and does no other harm; one that is set
// forward ends them early. Tokens of issuers are held to five minutes either
// way, as AWS does.
//
// With Config.CloudTrail it writes the log files of a trail with management events
// and S3 data events, in CloudTrail's form. No secret is in them, not even the
// session token that CloudTrail has. They are written by DeliverTrail, each time
// that a thousand events have come together, and by Close.
//
// One deviation from AWS is deliberate: an OIDC provider may be registered for
// http://127.0.0.1:PORT, http://localhost:PORT and http://[::1]:PORT, where AWS
// takes https without a port only.
package localaws
