package federation

import (
	"slices"
	"strings"
	"testing"
)

const explainNoKey = "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements"

// TestReadErrorText takes an error as each client prints it.
func TestReadErrorText(t *testing.T) {
	const denied = "Not authorized to perform sts:TagSession"
	for name, test := range map[string]struct{ text, code, operation, message string }{
		"AWS CLI":       {"\nAn error occurred (AccessDenied) when calling the AssumeRoleWithWebIdentity operation: " + denied + "\n", "AccessDenied", "AssumeRoleWithWebIdentity", denied},
		"AWS CLI again": {"An error occurred (AccessDenied) when calling the AssumeRoleWithWebIdentity operation (reached max retries: 4): " + denied, "AccessDenied", "AssumeRoleWithWebIdentity", denied},
		"boto3": {"botocore.errorfactory.InvalidIdentityTokenException: An error occurred (InvalidIdentityToken) when calling the AssumeRoleWithWebIdentity operation: " + explainNoKey,
			"InvalidIdentityToken", "AssumeRoleWithWebIdentity", explainNoKey},
		"Go": {"operation error STS: AssumeRoleWithWebIdentity, https response error StatusCode: 403, RequestID: 1-2, api error AccessDenied: " + denied, "AccessDenied", "AssumeRoleWithWebIdentity", denied},
		"Go, of the model": {"operation error STS: AssumeRoleWithWebIdentity, https response error StatusCode: 400, RequestID: 1-2, ExpiredTokenException: Token expired: current date/time 1 must be before the expiration date/time 0",
			"ExpiredTokenException", "AssumeRoleWithWebIdentity", "Token expired: current date/time 1 must be before the expiration date/time 0"},
		"JavaScript": {"InvalidIdentityTokenException: " + explainNoKey, "InvalidIdentityTokenException", "", explainNoKey},
		"Java":       {denied + " (Service: Sts, Status Code: 403, Request ID: 1-2) (Service: AWSSecurityTokenService; Status Code: 403; Error Code: AccessDenied; Request ID: 1-2)", "AccessDenied", "", denied},
		"XML": {`<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>Not authorized to perform sts:TagSession</Message></Error></ErrorResponse>`,
			"AccessDenied", "", denied},
		"XML of S3":     {`<Error><Code>AccessDenied</Code><Message>User: x is not authorized to perform: s3:GetObject on resource: &quot;r&quot; because</Message></Error>`, "AccessDenied", "", `User: x is not authorized to perform: s3:GetObject on resource: "r" because`},
		"JSON":          {`{"Error": {"Code": "AccessDenied", "Message": "` + denied + `"}}`, "AccessDenied", "", denied},
		"bare":          {"AccessDenied: " + denied, "AccessDenied", "", denied},
		"code alone":    {"PackedPolicyTooLarge", "PackedPolicyTooLarge", "", ""},
		"message alone": {denied, "", "", denied},
		"HEAD":          {"An error occurred (403) when calling the HeadObject operation: Forbidden", "403", "HeadObject", "Forbidden"},
	} {
		code, operation, message := readErrorText(test.text)
		if code != test.code || operation != test.operation || message != test.message {
			t.Errorf("%s: got %q, %q, %q", name, code, operation, message)
		}
	}
}

// TestErrorsOnRecord holds that every error of AWS that we know of finds its own
// row, by its own words.
func TestErrorsOnRecord(t *testing.T) {
	for text, want := range map[string]string{
		"ExpiredTokenException: Token expired: current date/time 1 must be before the expiration date/time 0":        "more than 5 minutes ago",
		"InvalidIdentityToken: No OpenIDConnect provider found in your account for https://x":                        "byte for byte",
		"InvalidIdentityToken: " + explainNoKey:                                                                      "could not get the key",
		"InvalidIdentityToken: OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint":       "TLS certificate",
		"InvalidIdentityToken: principal_tags passed in claim is not in correct format.":                             "tags claim",
		"InvalidIdentityToken: transitive_tag_keys passed in claim is not in correct format.":                        "transitive",
		"InvalidIdentityToken: Missing a required claim: exp":                                                        "lacks",
		"InvalidIdentityToken: Claim is not allowed to be empty: aud":                                                "empty",
		"InvalidIdentityToken: Invalid timestamp in token claims.":                                                   "whole number",
		"InvalidIdentityToken: Token issued in the future: x":                                                        "ahead of AWS's clock",
		"InvalidIdentityToken: Token not yet valid: x":                                                               "ahead of AWS's clock",
		"InvalidIdentityToken: Token audience contains more than one audience while authorized party is not present": "several audiences",
		"InvalidIdentityToken: " + notAJWT:                                                                           "no signed JWT",
		"InvalidIdentityToken: Incorrect token audience":                                                             "a client that the provider does not have",
		"InvalidIdentityToken: The web identity token provided could not be validated.":                              "does not say at what",
		"InvalidIdentityToken: source_identity passed in claim is not in correct format.":                            "source identity",
		"InvalidIdentityToken: The requested role is not one of the roles passed in the claim.":                      "lists roles",
		"Throttling: Rate exceeded":                                                                                  "more often", "ThrottlingException: Rate exceeded": "more often", "RequestLimitExceeded: x": "more often", "SlowDown: x": "more often", "ServiceUnavailable: x": "too busy",
		"IDPCommunicationError: x": "could not reach", "IDPRejectedClaim: x": "refused the token",
		"AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity":                                              "does not trust this token, or does not exist",
		"AccessDenied: Not authorized to perform sts:TagSession":                                                             "does not allow sts:TagSession",
		"AccessDenied: Not authorized to perform: sts:TagSession":                                                            "does not allow sts:TagSession",
		"AccessDenied: Not authorized to perform sts:SetSourceIdentity":                                                      "does not allow sts:SetSourceIdentity",
		"AccessDenied: User: x is not authorized to perform: sts:AssumeRole on resource: y":                                  "another call",
		"MalformedPolicyDocument: x":                                                                                         "session policy",
		"PackedPolicyTooLarge: Packed policy consumes 112% of allotted space, please use smaller policy.":                    "too large",
		"RegionDisabledException: x":                                                                                         "not active",
		"ValidationError: The requested DurationSeconds exceeds the MaxSessionDuration set for this role.":                   "longer than the role allows",
		"ValidationError: The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining": "an hour at most",
		"ValidationError: 1 validation error detected: Value 'a' at 'roleSessionName' failed to satisfy constraint: x":       "constraint",
		"MissingParameter: x": "was not sent", "MalformedInput: x": "protocol", "InvalidAction: x": "no such action", "InternalFailure: x": "AWS failed",
		`AccessDenied: User: s is not authorized to perform: s3:GetObject on resource: "arn:aws:s3:::b/k" because no identity-based policy allows the s3:GetObject action`: "Nothing allows it",
		`AccessDenied: User: s is not authorized to perform: s3:GetObject on resource: "arn:aws:s3:::b/k" because no session policy allows the s3:GetObject action`:        "session policy that was passed",
		`AccessDenied: User: s is not authorized to perform: s3:GetObject on resource: "arn:aws:s3:::b/k" because no permissions boundary allows the s3:GetObject action`:  "boundary",
		`AccessDenied: User: s is not authorized to perform: s3:GetObject on resource: "arn:aws:s3:::b/k" with an explicit deny in a resource-based policy`:                "Deny of the bucket policy",
		`AccessDenied: User: s is not authorized to perform: s3:GetObject on resource: "arn:aws:s3:::b/k" with an explicit deny in an identity-based policy`:               "Deny of the policy that the message names",
		`AccessDenied: User: s is not authorized to perform: s3:GetObject on resource: "arn:aws:s3:::b/k" with an explicit deny in a service control policy`:               "organization",
		"AccessDenied: x because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access.":                                                "public access block",
		"AccessDenied: Access Denied": "names no policy", "AccessDenied: Request has expired": "presigned",
		"AccessDenied: There were headers present in the request which were not signed: host": "does not cover",
		"NoSuchKey: The specified key does not exist.":                                        "nothing was refused", "NoSuchBucket: x": "bucket does not exist", "NoSuchBucketPolicy: x": "no policy",
		"MalformedPolicy: Policy has invalid resource": "does not take the bucket policy", "SignatureDoesNotMatch: x": "not the one that was signed",
		"InvalidAccessKeyId: x": "access key id", "InvalidClientTokenId: x": "does not know the credentials", "RequestTimeTooSkewed: x": "15 minutes", "ExpiredToken: x": "has ended",
		"InvalidToken: x": "belongs to another", "AuthorizationHeaderMalformed: x": "another region", "AuthorizationQueryParametersError: x": "presigned URL", "XAmzContentSHA256Mismatch: x": "hash was signed",
		"An error occurred (403) when calling the HeadObject operation: Forbidden": "no body", "An error occurred (404) when calling the HeadObject operation: Not Found": "found no such",
		"MalformedPolicyDocumentException: x": "session policy", "PackedPolicyTooLargeException: x": "too large", "InvalidIdentityTokenException: x": "does not say at what",
		"AccessDenied: x via VPC endpoint policy": "VPC endpoint",
	} {
		x := Explain(ExplainInput{Error: text})
		if r := x.Error; !r.Known || !r.Explained || !strings.Contains(r.Meaning, want) || len(r.Causes) == 0 || x.ExitStatus() != 1 {
			t.Errorf("%s\nwant %q, got %+v", text, want, r)
		}
	}
	found := map[string]bool{}
	for _, k := range errorKinds {
		found[k.code] = true
		if k.meaning == "" || len(k.causes) == 0 {
			t.Errorf("%s %v has no meaning or no cause", k.code, k.message)
		}
	}
	if len(found) < 25 {
		t.Errorf("only %d codes", len(found))
	}
}

// What is not on record is not guessed at.
func TestUnknownErrors(t *testing.T) {
	for _, text := range []string{
		"something went wrong", "An error occurred (Unheard) when calling the AssumeRoleWithWebIdentity operation: no", "dial tcp 192.0.2.1:443: i/o timeout", "Unheard: text",
	} {
		x := Explain(ExplainInput{Error: text})
		if r := x.Error; r.Known || r.Explained || len(r.Causes) > 0 || !strings.Contains(r.Conclusion, "not on record") || x.ExitStatus() != 3 {
			t.Errorf("%q: got %+v, exit status %d", text, r, x.ExitStatus())
		}
	}
}

// A token that stands in an error's text is not repeated.
func TestErrorsRepeatNoToken(t *testing.T) {
	token := explainToken(t, nil)
	for _, text := range []string{"no: " + token, "An error occurred (AccessDenied) when calling the X operation: " + token} {
		if out := explainedText(Explain(ExplainInput{Error: text})); strings.Contains(out, token[len(token)-20:]) || strings.Contains(out, "eyJ") {
			t.Errorf("the token is repeated:\n%s", out)
		}
	}
}

// TestErrorTogetherWithDocuments holds which cause it is.
func TestErrorTogetherWithDocuments(t *testing.T) {
	cli := func(code, message string) string {
		return "An error occurred (" + code + ") when calling the AssumeRoleWithWebIdentity operation: " + message
	}
	for name, test := range map[string]struct {
		change    func(*ExplainInput)
		step      string // of the cause that it is; "" for none
		concludes string
	}{
		"missing action": {func(in *ExplainInput) {
			in.dropAction(actionTag)
			in.Error = cli("AccessDenied", "Not authorized to perform sts:TagSession")
		}, "trust-tag", "It is this: the trust policy allows"},
		"role absent": {func(in *ExplainInput) {
			in.RoleARN = in.Account.Config.RoleARN() + "2"
			in.Error = cli("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
		}, "role", "no role of this ARN"},
		"stale keys": {func(in *ExplainInput) { in.Error = cli("InvalidIdentityToken", explainNoKey) }, "", "keeps an issuer's keys for minutes"},
		"unknown kid": {func(in *ExplainInput) {
			in.Issuer.KeySet = []byte(`{"keys":[]}`)
			in.Error = cli("InvalidIdentityToken", explainNoKey)
		}, "key", "the set has no key"},
		"another error": {func(in *ExplainInput) {
			in.dropAction(actionTag)
			in.Error = cli("InvalidIdentityToken", explainNoKey)
		}, "", "to another: AccessDenied, at trust-tag"},
		"in force meanwhile": {func(in *ExplainInput) { in.Error = cli("AccessDenied", "Not authorized to perform sts:TagSession") }, "", "takes seconds to be in force"},
		"behind another": {func(in *ExplainInput) {
			in.dropAction(actionTag)
			in.Now = in.Now.Add(3600e9)
			in.Error = cli("AccessDenied", "Not authorized to perform sts:TagSession")
		}, "trust-tag", "fails before it now, times"},
		"of S3": {func(in *ExplainInput) {
			in.Error = `An error occurred (AccessDenied) when calling the GetObject operation: User: arn:aws:sts::111122223333:assumed-role/agentkeys-data-role/agent is not authorized to perform: s3:GetObject on resource: "arn:aws:s3:::agentkeys-data/bots/` + walletB + `/x" with an explicit deny in a resource-based policy`
		}, stepRequest, sidDenyObjects},
	} {
		in := explainReference(t)
		test.change(&in)
		x := Explain(in)
		i := slices.IndexFunc(x.Error.Causes, func(c ErrorCause) bool { return c.Verdict == CauseIsThis })
		step := ""
		if i >= 0 {
			step = x.Error.Causes[i].Step
		}
		if step != test.step || !strings.Contains(x.Error.Conclusion, test.concludes) {
			t.Errorf("%s: want %s and %q\n%s", name, test.step, test.concludes, explainedText(x))
		}
	}
}
