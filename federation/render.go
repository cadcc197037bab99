package federation

import (
	"fmt"
	"strings"

	"agentkeys/policy"
)

// Form says how much the documents hold.
type Form string

// The two forms. Plain documents have tag-scoped allows only, as run-books
// usually print them; hardened ones test the tag's shape as well and have the
// backstop denies, which hold where some other policy allows too much.
const (
	Plain    Form = "plain"
	Hardened Form = "hardened"
)

// Documents is the AWS side of a set-up.
type Documents struct {
	Form         Form
	Provider     OIDCProvider
	Trust        *policy.Document // of the data role
	RolePolicy   *policy.Document // inline policy of the data role; nil: it has none, as S3 is granted by the bucket alone
	BucketPolicy *policy.Document
	// PublicAccess and Ownership go on the bucket. Their JSON is what the AWS
	// CLI takes.
	PublicAccess PublicAccessBlock
	Ownership    OwnershipControls
}

// OIDCProvider is the registration of the issuer at IAM. Its JSON is what
// "aws iam create-open-id-connect-provider --cli-input-json" takes.
type OIDCProvider struct {
	URL         string   `json:"Url"`
	ClientIDs   []string `json:"ClientIDList"`
	Thumbprints []string `json:"ThumbprintList,omitempty"`
}

// PublicAccessBlock is a bucket's Block Public Access configuration.
type PublicAccessBlock struct {
	BlockPublicAcls       bool
	IgnorePublicAcls      bool
	BlockPublicPolicy     bool
	RestrictPublicBuckets bool
}

// OwnershipControls says who owns the objects in a bucket, and with
// BucketOwnerEnforced that ACLs count for nothing.
type OwnershipControls struct {
	Rules []OwnershipRule
}

// OwnershipRule is the one rule of OwnershipControls.
type OwnershipRule struct {
	ObjectOwnership string
}

// The statement ids that Render writes. A statement with another Sid, or with
// none, is somebody else's.
const (
	sidTenantSession = "TenantSession"
	sidNoSlashInTag  = "NoSlashInTenantTag"
	sidTenantList    = "TenantList"
	sidTenantObjects = "TenantObjects"
	sidDenyUntagged  = "DenyUntaggedSession"
	sidDenyObjects   = "DenyObjectsOutsideTenant"
	sidDenyListing   = "DenyListingOutsideTenant"
	sidDenyUploads   = "DenyListingUploads"
)

// Render makes the documents of a configuration.
func Render(c Config, f Form) (Documents, error) { return RenderWith(c, f, Extras{}) }

// RenderWith makes the documents of a configuration with what a set-up may have
// besides. None of the extras touches what isolates.
func RenderWith(c Config, f Form, x Extras) (Documents, error) {
	if err := c.Validate(); err != nil {
		return Documents{}, err
	}
	if err := x.validate(c); err != nil {
		return Documents{}, err
	}
	if f != Plain && f != Hardened {
		return Documents{}, fmt.Errorf("federation documents: want form %s or %s, got %q", Plain, Hardened, f)
	}
	d := Documents{
		Form:         f,
		Provider:     OIDCProvider{URL: c.Issuer, ClientIDs: []string{c.Audience}, Thumbprints: x.thumbprints()},
		Trust:        trustPolicy(c, f),
		BucketPolicy: bucketPolicy(c, f),
		PublicAccess: PublicAccessBlock{true, true, true, true},
		Ownership:    OwnershipControls{[]OwnershipRule{{"BucketOwnerEnforced"}}},
	}
	if x.MailFrom != "" {
		d.RolePolicy = document(sendMail(c, x.MailFrom))
	}
	if x.Inbound != "" {
		d.BucketPolicy.Statements = append(d.BucketPolicy.Statements, inboundMail(c, x.Inbound))
	}
	return d, nil
}

// trustPolicy admits the issuer's tagged tokens. TagSession stands beside
// AssumeRoleWithWebIdentity because STS evaluates each action on its own, and
// a token that carries tags needs both.
//
// The plain form asks that the tag be there. The hardened one asks that it look
// like a wallet or an omni account too, since an empty tag is "there", and that
// no other tag come with it. StringLike's "?" also matches a slash, so a value of
// 64 characters could be "<a wallet>/inbox/…" and name a folder inside another
// tenant's prefix: that is denied. The Deny is a positive comparison and so does
// not fire on a token without tags; that token is refused for want of an Allow.
func trustPolicy(c Config, f Form) *policy.Document {
	federated := &policy.Principals{Federated: []string{c.ProviderARN()}}
	actions := []string{"sts:AssumeRoleWithWebIdentity", "sts:TagSession"}
	tag := "aws:RequestTag/" + c.TagKey
	admit := policy.Statement{
		Sid: sidTenantSession, Effect: policy.Allow, Principal: federated, Action: actions,
		Condition: []policy.Condition{
			{Operator: "StringEquals", Key: c.ProviderID() + ":aud", Values: []string{c.Audience}},
			{Operator: "StringLike", Key: c.ProviderID() + ":sub", Values: []string{SubjectPattern}},
			{Operator: "Null", Key: tag, Values: []string{"false"}},
		},
	}
	if f == Plain {
		return document(admit)
	}
	admit.Condition = append(admit.Condition,
		policy.Condition{Operator: "StringLike", Key: tag, Values: tagShapes()},
		policy.Condition{Operator: "ForAllValues:StringEquals", Key: "aws:TagKeys", Values: []string{c.TagKey}},
	)
	return document(admit, policy.Statement{
		Sid: sidNoSlashInTag, Effect: policy.Deny, Principal: federated, Action: actions,
		Condition: []policy.Condition{{Operator: "StringLike", Key: tag, Values: []string{"*/*"}}},
	})
}

// tagShapes are the two forms of a tenant tag: a wallet address and an omni
// account.
func tagShapes() []string {
	return []string{"0x" + strings.Repeat("?", 40), strings.Repeat("?", 64)}
}

// bucketPolicy gives each tagged session its own prefix. Listing and objects are
// apart because S3 refuses a statement in which some action does not know a
// condition key. The slash after the variable keeps 0xab out of 0xab0's folder.
//
// The backstops name the role by aws:PrincipalArn rather than as Principal: a
// stored Principal is bound to the role's unique id and stops matching when the
// role is made anew, which is harmless for an Allow and fatal for a Deny.
func bucketPolicy(c Config, f Form) *policy.Document {
	role := &policy.Principals{AWS: []string{c.RoleARN()}}
	own := c.TenantPrefix("${aws:PrincipalTag/"+c.TagKey+"}") + "*"
	bucket, ownObjects := c.BucketARN(), c.BucketARN()+"/"+own
	list := policy.Statement{
		Sid: sidTenantList, Effect: policy.Allow, Principal: role,
		Action: []string{"s3:ListBucket"}, Resource: []string{bucket},
		Condition: []policy.Condition{{Operator: "StringLike", Key: "s3:prefix", Values: []string{own}}},
	}
	objects := policy.Statement{
		Sid: sidTenantObjects, Effect: policy.Allow, Principal: role,
		Action:   []string{"s3:GetObject", "s3:PutObject", "s3:DeleteObject"},
		Resource: []string{ownObjects},
	}
	if f == Plain {
		return document(list, objects)
	}
	backstop := func(sid string, actions []string, s policy.Statement) policy.Statement {
		s.Sid, s.Effect, s.Principal, s.Action = sid, policy.Deny, &policy.Principals{Any: true}, actions
		isRole := policy.Condition{Operator: "ArnEquals", Key: "aws:PrincipalArn", Values: []string{c.RoleARN()}}
		s.Condition = append([]policy.Condition{isRole}, s.Condition...)
		return s
	}
	return document(list, objects,
		backstop(sidDenyUntagged, []string{"s3:*"}, policy.Statement{
			Resource:  []string{bucket, bucket + "/*"},
			Condition: []policy.Condition{{Operator: "Null", Key: "aws:PrincipalTag/" + c.TagKey, Values: []string{"true"}}},
		}),
		backstop(sidDenyObjects,
			[]string{"s3:*Object*", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:Replicate*"},
			policy.Statement{NotResource: []string{ownObjects}}),
		backstop(sidDenyListing, []string{"s3:ListBucket", "s3:ListBucketVersions"}, policy.Statement{
			Resource:  []string{bucket},
			Condition: []policy.Condition{{Operator: "StringNotLike", Key: "s3:prefix", Values: []string{own}}},
		}),
		backstop(sidDenyUploads, []string{"s3:ListBucketMultipartUploads"}, policy.Statement{
			Resource: []string{bucket},
		}),
	)
}

// variablesVersion is the version of the language that has policy variables.
const variablesVersion = "2012-10-17"

// document states the version, without which AWS takes 2008-10-17 and reads the
// variables as plain text.
func document(statements ...policy.Statement) *policy.Document {
	return &policy.Document{Version: variablesVersion, Statements: statements}
}
