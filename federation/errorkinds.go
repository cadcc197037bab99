package federation

import "strings"

// errorKind is one row of what AWS says and what that means. Of the rows of one
// code the first whose message fits is taken, so the particular stand before the
// general.
type errorKind struct {
	code    string
	message phrases // nil: any
	sts     bool    // an answer of AssumeRoleWithWebIdentity
	meaning string
	causes  []errorCause // the likeliest first
	later   string       // what it may be where no check fails now
}

// errorCause is one thing that an error comes from, and the step that tests it.
type errorCause struct{ step, why, fix string }

// phrases are beginnings, middles and ends of messages, in lower case; one is
// enough.
type phrases []string

func says(any ...string) phrases { return any }

func (p phrases) in(message string) bool {
	message = strings.ReplaceAll(strings.ToLower(message), "perform: ", "perform ")
	for _, phrase := range p {
		if strings.Contains(message, phrase) {
			return true
		}
	}
	return p == nil
}

const (
	laterCache  = "STS keeps an issuer's keys for minutes: a key published a moment ago may not be known yet. It also answers so where it could not reach the issuer just then; try again."
	laterChange = "A role or a trust policy takes seconds to be in force after a change; try again."
)

// busy is what the refusals come from that pass by themselves.
var busy = []errorCause{{"", "too many calls at once", "Try again after a moment; keep sessions until they end rather than ask for one each time."}}

// errorKinds are the errors of STS (the API's models, and recordings of AWS), of S3
// and of its signatures.
var errorKinds = []errorKind{
	{code: "ExpiredTokenException", sts: true, meaning: "STS found the token's exp more than 5 minutes ago.",
		causes: []errorCause{{"times", "the token is old: it lives for five minutes", "Mint a fresh token."},
			{"", "the issuer's clock is behind", "Set the issuer's clock."}},
		later: "The token that was sent was older than this one."},
	{code: "InvalidIdentityToken", message: says("no openidconnect provider found"), sts: true,
		meaning: "The role's account has no provider whose URL is the token's iss, byte for byte.",
		causes: []errorCause{{"provider", "the token's iss and the provider's URL differ, by a slash at the end, a scheme or a letter's case", "Mint iss as the provider's URL is, byte for byte."},
			{"provider", "the role's ARN names another account, and the provider is looked up there", "Correct the role's ARN."},
			{"provider", "the provider was not registered", "Register it with aws iam create-open-id-connect-provider."}},
		later: "The provider was registered meanwhile, or the role was another account's."},
	{code: "InvalidIdentityToken", message: says("retrieve verification key"), sts: true,
		meaning: "STS could not get the key that the token names: the issuer's documents could not be had, or do not hold it in a form that AWS takes.",
		causes: []errorCause{{"key", "the key set lacks the token's kid: a key that signs before it is published, or one that was withdrawn too early", "Publish keys before signing with them, and keep them until their tokens have expired."},
			{"discovery", "the discovery document cannot be had, or is not the issuer's", "Make it public under the issuer's URL."},
			{"key", `the key is there and AWS does not take it: it has "key_ops", another "use", or an "x5c" that contradicts it`, "Publish the key with kty, kid, use and its numbers alone."},
			{"", "AWS cannot reach the issuer: a firewall, a private address, or an answer slower than about five seconds", "Make the issuer public and fast."},
			{"", "the call was signed with credentials that lay about, and STS got an X-Amz-Security-Token with it", "Call STS without credentials."}},
		later: laterCache},
	{code: "InvalidIdentityToken", message: says("match configured thumbprint"), sts: true,
		meaning: "The issuer's TLS certificate is of no authority that AWS trusts, and not the one whose thumbprint the provider has.",
		causes:  []errorCause{{"", "the certificate was renewed under another authority", "Use a certificate of a public authority, or update the provider's thumbprints."}}},
	{code: "InvalidIdentityToken", message: says("principal_tags passed in claim", "session tags passed", "session tags are passed"), sts: true,
		meaning: "The tags claim is not of AWS's shape.",
		causes:  []errorCause{{"tags", "a tag's value is a plain string, where AWS wants an array of one", `Mint {"principal_tags": {"<key>": ["<value>"]}}.`}}},
	{code: "InvalidIdentityToken", message: says("transitive_tag_keys passed in claim"), sts: true,
		meaning: "The transitive tag keys are not an array of keys that the token has as tags.",
		causes:  []errorCause{{"tags", "a transitive key is no tag of the token", "List the keys of the token's own tags alone."}}},
	{code: "InvalidIdentityToken", message: says("source_identity"), sts: true, meaning: "The source identity is not of AWS's shape.",
		causes: []errorCause{{"source-identity", "it has other than 2 to 64 characters of A-Z a-z 0-9 _ + = , . @ -", "Mint it in that shape, or leave it out."}}},
	{code: "InvalidIdentityToken", message: says("roles passed in", "the requested role"), sts: true, meaning: "The token lists roles, and this one is not among them.",
		causes: []errorCause{{"roles-claim", "the claim pins the token to other roles; ARNs are compared exactly", "Assume a role that the token lists."}}},
	{code: "InvalidIdentityToken", message: says("missing a required claim"), sts: true, meaning: "The token lacks one of iss, sub, aud, iat and exp.",
		causes: []errorCause{{"claims", "the issuer does not mint it", "Mint the claim that the message names."}, {"provider", "the token has no iss", "Mint iss."}}},
	{code: "InvalidIdentityToken", message: says("not allowed to be empty"), sts: true, meaning: "A claim is there and empty.",
		causes: []errorCause{{"audience", "the token's aud is empty", "Mint the audience."}}},
	{code: "InvalidIdentityToken", message: says("invalid timestamp"), sts: true, meaning: "iat, nbf or exp is not a whole number of seconds.",
		causes: []errorCause{{"times", "it is a fraction, null or a date as text", "Mint the times as integers."}}},
	{code: "InvalidIdentityToken", message: says("issued in the future", "not yet valid"), sts: true, meaning: "iat or nbf lies more than 5 minutes ahead of AWS's clock.",
		causes: []errorCause{{"times", "the issuer's clock is ahead", "Set the issuer's clock."}}, later: "Meanwhile it has become valid."},
	{code: "InvalidIdentityToken", message: says("more than one audience"), sts: true, meaning: "The token has several audiences and no azp to choose among them.",
		causes: []errorCause{{"audience", "the issuer mints several audiences", "Mint one audience."}}},
	{code: "InvalidIdentityToken", message: says("not a valid jwt"), sts: true, meaning: "What was sent is no signed JWT.",
		causes: []errorCause{{"token", "an access token, a cut or wrapped token, or white space in it", "Send the token exactly as it was minted."}}},
	{code: "InvalidIdentityToken", message: says("audience"), sts: true, meaning: "The token is for a client that the provider does not have.",
		causes: []errorCause{{"audience", "the token's aud, or its azp where there is one, is not among the provider's client ids", "Register the client id, or mint the right audience."}}},
	{code: "InvalidIdentityToken", sts: true, meaning: "STS could not validate the token; this wording does not say at what.",
		causes: []errorCause{{"audience", "the token's aud is not among the provider's client ids", "Register the client id, or mint the right audience."},
			{"signature", "the signature does not verify", "Use the token as it was minted."},
			{"token", "the token is no signed JWT, or is signed with an algorithm that STS does not take", "Sign with RS256 or ES256."},
			{"claims", "a required claim is missing or of another kind", "Mint iss, sub, aud, iat and exp."},
			{"tags", "the tags claim is not of AWS's shape", "Mint each tag as an array of one string."}},
		later: laterCache},
	{code: "IDPCommunicationError", sts: true, meaning: "STS could not reach the issuer. It may be tried again.",
		causes: []errorCause{{"discovery", "the discovery document cannot be had", "Make it public under the issuer's URL."},
			{"key", "the key set cannot be had", "Serve it at the jwks_uri."},
			{"", "the issuer was down or slow for a moment", "Try again."}},
		later: "It was a moment's failure; try again."},
	{code: "Throttling", sts: true, meaning: "STS was asked more often than it lets this account ask. It may be tried again.", causes: busy},
	{code: "RequestLimitExceeded", sts: true, meaning: "STS was asked more often than it lets this account ask. It may be tried again.", causes: busy},
	{code: "SlowDown", sts: true, meaning: "AWS was asked more often than it answers just now. It may be tried again.", causes: busy},
	{code: "ServiceUnavailable", sts: true, meaning: "AWS is too busy just now, or down. It may be tried again.", causes: busy},
	{code: "IDPRejectedClaim", sts: true, meaning: "The identity provider itself refused the token.",
		causes: []errorCause{{"times", "the token has expired or was revoked", "Mint a fresh token."}}},
	{code: "AccessDenied", message: says("perform sts:tagsession"), sts: true,
		meaning: "The token carries session tags, and the trust policy does not allow sts:TagSession for it. Untagged tokens get in all the same.",
		causes: []errorCause{{"trust-tag", "the trust policy allows AssumeRoleWithWebIdentity but not sts:TagSession", "Add sts:TagSession to the statement's Action."},
			{"trust-tag", "its conditions are on keys that TagSession does not have, such as sts:RoleSessionName", "Give TagSession a statement of its own."}},
		later: laterChange},
	{code: "AccessDenied", message: says("perform sts:setsourceidentity"), sts: true,
		meaning: "The token carries a source identity, and the trust policy does not allow sts:SetSourceIdentity for it.",
		causes:  []errorCause{{"trust-source", "the trust policy does not allow sts:SetSourceIdentity", "Add it, in a statement without conditions on tags."}}, later: laterChange},
	{code: "AccessDenied", message: says("perform sts:assumerolewithwebidentity"), sts: true,
		meaning: "The role does not trust this token, or does not exist: STS answers both alike.",
		causes: []errorCause{{"trust-assume", "a condition of the trust policy does not hold: audience, subject, or the tag's presence or shape", "Compare the conditions with the token's claims."},
			{"trust-assume", "the trust policy names another provider", "Name the provider's ARN as Federated principal."},
			{"role", "there is no role of this ARN", "Correct the ARN, with its path and case."},
			{"", "the role or its trust policy was made a moment ago", "Wait some seconds and try again."},
			{"", "a resource control policy of the organization denies it", "Ask whoever keeps the organization's policies."}},
		later: laterChange},
	{code: "AccessDenied", message: says("perform sts:"), meaning: "STS refused another call than AssumeRoleWithWebIdentity: the caller's own policies, or the role's trust policy, do not allow it.",
		causes: []errorCause{{"", "the role trusts web identities, not the caller's user or role", "Call AssumeRoleWithWebIdentity with a token."}}},
	{code: "MalformedPolicyDocument", sts: true, meaning: "A session policy cannot be read, or a managed one does not exist.",
		causes: []errorCause{{"session-policy", "the session policy is no valid policy", "Correct it; it has no Principal."}}},
	{code: "PackedPolicyTooLarge", sts: true, meaning: "Session policies, tags and claims together are too large for a session token.",
		causes: []errorCause{{"packed-size", "the session policy, the tags or the sub is too long", "Shorten them."}},
		later:  "AWS's packing is not public; what is estimated here to fit need not."},
	{code: "RegionDisabledException", sts: true, meaning: "STS is not active in that region for the account.",
		causes: []errorCause{{"", "the region is off", "Activate STS in the region (account settings of IAM), or call another."}}},
	{code: "ValidationError", message: says("maxsessionduration"), sts: true, meaning: "The session that was asked for is longer than the role allows.",
		causes: []errorCause{{"duration", "DurationSeconds is more than the role's MaxSessionDuration", "Ask for less, or raise the role's maximum."}}},
	{code: "ValidationError", message: says("role chaining", "1 hour session limit"), sts: true, meaning: "A session that assumes a role by role chaining lasts an hour at most.",
		causes: []errorCause{{"", "the caller is itself a role's session", "Ask for 3600 seconds at most."}}},
	{code: "ValidationError", sts: true, meaning: "A parameter breaks a constraint of the API; the token was not looked at.",
		causes: []errorCause{{"parameters", "the role's ARN, the session's name, the duration or the policy is out of its limits", "Keep to the constraint that the message names."}}},
	{code: "MissingParameter", sts: true, meaning: "A required parameter was not sent.", causes: []errorCause{{"parameters", "RoleArn, RoleSessionName or WebIdentityToken is missing", "Send all three."}}},
	{code: "MalformedInput", sts: true, meaning: "The request is not of the protocol's form.", causes: []errorCause{{"", "a number that is none, or a body that is not form-encoded", "Use an SDK or the AWS CLI."}}},
	{code: "InvalidAction", meaning: "The endpoint has no such action.", causes: []errorCause{{"", "the request went to another service, or carries another Version", "Check the endpoint and the Version (2011-06-15)."}}},
	{code: "InternalFailure", sts: true, meaning: "AWS failed. A token whose sub is null brings that about.",
		causes: []errorCause{{"claims", "the token's sub is null", "Mint the sub as a string."}, {"", "AWS failed for a moment", "Try again."}}},

	{code: "AccessDenied", message: says("because no session policy allows"), meaning: "The session policy that was passed does not allow it, whatever else does.",
		causes: []errorCause{{stepRequest, "the session policy, or the grant it was made from, is narrower than the request", "Ask for a wider scope."}}},
	{code: "AccessDenied", message: says("because no permissions boundary allows"), meaning: "The role's permissions boundary does not allow it.",
		causes: []errorCause{{stepRequest, "the boundary lacks the action", "Widen the boundary."}}},
	{code: "AccessDenied", message: says("service control policy", "resource control policy"), meaning: "A policy of the organization refuses it.",
		causes: []errorCause{{stepRequest, "an organization's policy denies it, or does not allow it", "Ask whoever keeps the organization's policies."}}},
	{code: "AccessDenied", message: says("vpc endpoint policy"), meaning: "The policy of the VPC endpoint that the request went through refuses it.",
		causes: []errorCause{{"", "the endpoint's policy does not allow it", "Change the endpoint's policy, or take another way."}}},
	{code: "AccessDenied", message: says("blockpublicpolicy"), meaning: "The bucket's public access block refuses a public bucket policy.",
		causes: []errorCause{{"", "a statement allows a wildcard principal without a fixed condition", "Name the role as Principal."}}},
	{code: "AccessDenied", message: says("with an explicit deny in a resource-based policy"), meaning: "A Deny of the bucket policy matched. In the hardened set-up those are the backstops.",
		causes: []errorCause{{stepRequest, "the request is outside the session's own prefix, or the session has no tag", "Stay under the session's own prefix."},
			{"tags", "AWS reads no tag from the token", "Mint the tags claim in AWS's shape."}}},
	{code: "AccessDenied", message: says("with an explicit deny"), meaning: "A Deny of the policy that the message names matched.",
		causes: []errorCause{{stepRequest, "a Deny statement matches the request", "Narrow the Deny."}}},
	{code: "AccessDenied", message: says("because no "), meaning: "Nothing allows it. S3 says \"no identity-based policy\" whenever nothing allows, the bucket policy included.",
		causes: []errorCause{{stepRequest, "the key or the prefix is not under the session's own prefix", "Use <prefix>/<tag>/."},
			{"tags", "the session has no tag, or another one than the policy's variable names", "Mint the tags claim in AWS's shape."},
			{"", "the action is none that the bucket policy allows", "Add it to the statement of its kind."},
			{"", "the object does not exist: a missing key is 404 only to those who may list it", "Look whether the key is right."}}},
	{code: "AccessDenied", message: says("request has expired"), meaning: "The presigned URL's time is over, or the session behind it has ended.",
		causes: []errorCause{{"", "the URL is older than its X-Amz-Expires", "Presign again."}}},
	{code: "AccessDenied", message: says("not signed", "valid date"), meaning: "The request's signature does not cover all it has to.",
		causes: []errorCause{{"", "a proxy adds or drops a header, or the client signs too little", "Sign host and every x-amz- header."}}},
	{code: "AccessDenied", meaning: "Access is refused, and the message names no policy: the caller is of another account, or anonymous.",
		causes: []errorCause{{"", "the request was sent without credentials", "See that the client uses the session's credentials."},
			{"", "the bucket is another account's", "Correct the bucket's name."},
			{stepRequest, "no policy allows it", "Use the session's own prefix."}}},
	{code: "403", meaning: "A HEAD was refused; its answer has no body, so S3 does not say why.",
		causes: []errorCause{{stepRequest, "the request is not allowed", "Repeat it as a GET, to read the reason."},
			{"", "the object does not exist and the caller may not list its prefix", "Look whether the key is right."},
			{"", "signature, clock or session are wrong", "Repeat it as a GET, to read the reason."}}},
	{code: "404", meaning: "A HEAD found no such object or bucket.", causes: []errorCause{{"", "the key is another", "Look whether the key is right."}}},
	{code: "NoSuchKey", meaning: "The object does not exist, and the caller may list where it would be; nothing was refused.",
		causes: []errorCause{{"", "the key is another", "Look whether the key is right."}}},
	{code: "NoSuchBucket", meaning: "The bucket does not exist.", causes: []errorCause{{"", "its name is another, or the endpoint is", "Correct the name or the endpoint."}}},
	{code: "NoSuchBucketPolicy", meaning: "The bucket has no policy: no tenant reaches anything by it.",
		causes: []errorCause{{"", "the policy was not applied", "Apply the rendered bucket policy."}}},
	{code: "MalformedPolicy", meaning: "S3 does not take the bucket policy.",
		causes: []errorCause{{"", "a condition key that not every action of the statement has, an unknown principal, or another bucket's ARN", "See what the message names; keep list and object statements apart."}}},

	{code: "SignatureDoesNotMatch", meaning: "The request that arrived is not the one that was signed, or the secret is another.",
		causes: []errorCause{{"", "the secret access key does not belong to the access key id", "Take all three parts of the credentials from one answer."},
			{"", "a proxy changes the path, the host or a header", "Check the endpoint and the proxy."}}},
	{code: "InvalidAccessKeyId", meaning: "AWS does not know the access key id.",
		causes: []errorCause{{"", "the session token is missing: ids that begin with ASIA are nothing without it", "Set AWS_SESSION_TOKEN."},
			{"", "the credentials are another AWS's, such as the local one's", "Use the endpoint that gave them."}}},
	{code: "InvalidClientTokenId", meaning: "STS or IAM does not know the credentials that signed the request.",
		causes: []errorCause{{"", "the session token is missing or another session's", "Take all three parts of the credentials from one answer."},
			{"", "the role was deleted since", "Assume the role again."}}},
	{code: "RequestTimeTooSkewed", meaning: "The request's time is more than 15 minutes off AWS's.", causes: []errorCause{{"", "this machine's clock is wrong", "Set the clock."}}},
	{code: "ExpiredToken", meaning: "The session that signed the request has ended. (An expired web identity token is ExpiredTokenException.)",
		causes: []errorCause{{"", "the session is over", "Assume the role again with a fresh token."}}},
	{code: "InvalidToken", meaning: "The session token is none, or belongs to another access key.",
		causes: []errorCause{{"", "the session token is cut or mixed with another's credentials", "Take all three parts of the credentials from one answer."}}},
	{code: "AuthorizationHeaderMalformed", meaning: "The Authorization header is not as S3 wants it, mostly because it was signed for another region.",
		causes: []errorCause{{"", "the bucket is in another region", "Set the region to the bucket's own."}}},
	{code: "AuthorizationQueryParametersError", meaning: "The query of a presigned URL is not as S3 wants it.",
		causes: []errorCause{{"", "X-Amz-Expires is not from 1 to 604800, or the URL was cut", "Presign again."}}},
	{code: "XAmzContentSHA256Mismatch", meaning: "The body that arrived is not the one whose hash was signed.",
		causes: []errorCause{{"", "something on the way changes the body", "Check the proxy."}}},
}
