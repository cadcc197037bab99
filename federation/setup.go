package federation

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/s3control"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"agentkeys/policy"
)

// AWS is the account that SetUp and Fetch work on: clients with the credentials of
// an administrator, or for Fetch of somebody who may read all that counts.
type AWS struct {
	IAM     *iam.Client
	S3      *s3.Client
	Control *s3control.Client // for access points; see NewControl. Without it they are not looked at
}

// rolePolicyName is the name of Documents.RolePolicy on the role.
const rolePolicyName = "agentkeys-data"

// roleDescription is what IAM shows beside the role's name.
const roleDescription = "Sessions of AgentKeys tenants"

// SetUp puts the documents in force: OIDC provider, role with its trust policy,
// inline policies, bucket, public access block, ownership and bucket policy.
// What exists is brought up to date, what is already right is left alone, and
// applying twice changes nothing.
//
// It takes nothing away that it did not make. Client ids and inline policies
// that it does not know stay; where a trust or bucket policy holds statements of
// somebody else, it stops with an error rather than drop them. Each error names
// the call and the thing.
func SetUp(ctx context.Context, a AWS, c Config, d Documents, inline map[string]*policy.Document) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if d.Trust == nil || d.BucketPolicy == nil {
		return errors.New("setting up AWS: want a trust policy and a bucket policy, got none")
	}
	s := setUp{AWS: a, Config: c, ctx: ctx}
	if err := s.provider(); err != nil {
		return err
	}
	if err := s.role(d.Trust); err != nil {
		return err
	}
	if d.RolePolicy != nil {
		if err := s.inlinePolicy(rolePolicyName, d.RolePolicy); err != nil {
			return err
		}
	}
	for _, name := range sortedNames(inline) {
		if err := s.inlinePolicy(name, inline[name]); err != nil {
			return err
		}
	}
	if err := s.bucket(d); err != nil {
		return err
	}
	return s.bucketPolicy(d.BucketPolicy)
}

// setUp is one run of SetUp.
type setUp struct {
	AWS
	Config
	ctx     context.Context
	newRole bool // made in this run, so S3 may not know it yet
}

// failed names the call and the thing it was for.
func failed(call, thing string, err error) error {
	return fmt.Errorf("setting up AWS: %s %q: %w", call, thing, err)
}

// hasCode reports whether AWS answered with one of the error codes.
func hasCode(err error, codes ...string) bool {
	var e smithy.APIError
	return errors.As(err, &e) && slices.Contains(codes, e.ErrorCode())
}

func (s *setUp) provider() error {
	arn := s.ProviderARN()
	got, err := s.IAM.GetOpenIDConnectProvider(s.ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: &arn})
	switch {
	case hasCode(err, "NoSuchEntity"):
		_, err = s.IAM.CreateOpenIDConnectProvider(s.ctx, &iam.CreateOpenIDConnectProviderInput{
			Url: &s.Issuer, ClientIDList: []string{s.Audience},
		})
		if err != nil {
			return failed("iam CreateOpenIDConnectProvider", s.Issuer, err)
		}
		return nil
	case err != nil:
		return failed("iam GetOpenIDConnectProvider", arn, err)
	case slices.Contains(got.ClientIDList, s.Audience):
		return nil
	}
	_, err = s.IAM.AddClientIDToOpenIDConnectProvider(s.ctx, &iam.AddClientIDToOpenIDConnectProviderInput{
		OpenIDConnectProviderArn: &arn, ClientID: &s.Audience,
	})
	if err != nil {
		return failed("iam AddClientIDToOpenIDConnectProvider", arn, err)
	}
	return nil
}

func (s *setUp) role(trust *policy.Document) error {
	text, err := json.Marshal(trust)
	if err != nil {
		return fmt.Errorf("setting up AWS: writing the trust policy: %w", err)
	}
	got, err := s.IAM.GetRole(s.ctx, &iam.GetRoleInput{RoleName: &s.Role})
	if hasCode(err, "NoSuchEntity") {
		s.newRole = true
		_, err = s.IAM.CreateRole(s.ctx, &iam.CreateRoleInput{
			RoleName:                 &s.Role,
			AssumeRolePolicyDocument: aws.String(string(text)),
			Description:              aws.String(roleDescription),
		})
		if err != nil {
			return failed("iam CreateRole", s.Role, err)
		}
		return nil
	}
	if err != nil {
		return failed("iam GetRole", s.Role, err)
	}
	current, err := stored(aws.ToString(got.Role.AssumeRolePolicyDocument))
	if err != nil {
		return failed("reading the trust policy of role", s.Role, err)
	}
	if same(current, trust) {
		return nil
	}
	if err := ours(current, trust); err != nil {
		return failed("replacing the trust policy of role", s.Role, err)
	}
	_, err = s.IAM.UpdateAssumeRolePolicy(s.ctx, &iam.UpdateAssumeRolePolicyInput{
		RoleName: &s.Role, PolicyDocument: aws.String(string(text)),
	})
	if err != nil {
		return failed("iam UpdateAssumeRolePolicy", s.Role, err)
	}
	return nil
}

func (s *setUp) inlinePolicy(name string, d *policy.Document) error {
	thing := s.Role + "/" + name
	text, err := json.Marshal(d)
	if err != nil {
		return failed("writing the inline policy", thing, err)
	}
	got, err := s.IAM.GetRolePolicy(s.ctx, &iam.GetRolePolicyInput{RoleName: &s.Role, PolicyName: &name})
	if err == nil {
		if current, err := stored(aws.ToString(got.PolicyDocument)); err == nil && same(current, d) {
			return nil
		}
	} else if !hasCode(err, "NoSuchEntity") {
		return failed("iam GetRolePolicy", thing, err)
	}
	_, err = s.IAM.PutRolePolicy(s.ctx, &iam.PutRolePolicyInput{
		RoleName: &s.Role, PolicyName: &name, PolicyDocument: aws.String(string(text)),
	})
	if err != nil {
		return failed("iam PutRolePolicy", thing, err)
	}
	return nil
}

// bucket makes the bucket and closes it to the public. Every call names the
// account as the expected owner: bucket names are global, and somebody else's
// bucket of this name must not get our policy or our tenants' data.
func (s *setUp) bucket(d Documents) error {
	_, err := s.S3.HeadBucket(s.ctx, &s3.HeadBucketInput{Bucket: &s.Bucket, ExpectedBucketOwner: &s.Account})
	if status(err) == http.StatusNotFound {
		in := &s3.CreateBucketInput{Bucket: &s.Bucket}
		if s.Region != "us-east-1" { // where S3 refuses the element
			in.CreateBucketConfiguration = &s3types.CreateBucketConfiguration{
				LocationConstraint: s3types.BucketLocationConstraint(s.Region),
			}
		}
		if _, err := s.S3.CreateBucket(s.ctx, in); err != nil && !hasCode(err, "BucketAlreadyOwnedByYou") {
			return failed("s3 CreateBucket", s.Bucket, err)
		}
	} else if err != nil {
		return failed("s3 HeadBucket", s.Bucket, err)
	}
	if err := s.ownership(d.Ownership); err != nil {
		return err
	}
	return s.publicAccess(d.PublicAccess)
}

func (s *setUp) ownership(want OwnershipControls) error {
	got, err := s.S3.GetBucketOwnershipControls(s.ctx, &s3.GetBucketOwnershipControlsInput{
		Bucket: &s.Bucket, ExpectedBucketOwner: &s.Account,
	})
	if err != nil && !hasCode(err, "OwnershipControlsNotFoundError") {
		return failed("s3 GetBucketOwnershipControls", s.Bucket, err)
	}
	next := &s3types.OwnershipControls{}
	for _, r := range want.Rules {
		next.Rules = append(next.Rules, s3types.OwnershipControlsRule{ObjectOwnership: s3types.ObjectOwnership(r.ObjectOwnership)})
	}
	if err == nil && reflect.DeepEqual(got.OwnershipControls, next) {
		return nil
	}
	_, err = s.S3.PutBucketOwnershipControls(s.ctx, &s3.PutBucketOwnershipControlsInput{
		Bucket: &s.Bucket, ExpectedBucketOwner: &s.Account, OwnershipControls: next,
	})
	if err != nil {
		return failed("s3 PutBucketOwnershipControls", s.Bucket, err)
	}
	return nil
}

func (s *setUp) publicAccess(want PublicAccessBlock) error {
	got, err := s.S3.GetPublicAccessBlock(s.ctx, &s3.GetPublicAccessBlockInput{
		Bucket: &s.Bucket, ExpectedBucketOwner: &s.Account,
	})
	if err != nil && !hasCode(err, "NoSuchPublicAccessBlockConfiguration") {
		return failed("s3 GetPublicAccessBlock", s.Bucket, err)
	}
	next := &s3types.PublicAccessBlockConfiguration{
		BlockPublicAcls:       &want.BlockPublicAcls,
		IgnorePublicAcls:      &want.IgnorePublicAcls,
		BlockPublicPolicy:     &want.BlockPublicPolicy,
		RestrictPublicBuckets: &want.RestrictPublicBuckets,
	}
	if err == nil && reflect.DeepEqual(got.PublicAccessBlockConfiguration, next) {
		return nil
	}
	_, err = s.S3.PutPublicAccessBlock(s.ctx, &s3.PutPublicAccessBlockInput{
		Bucket: &s.Bucket, ExpectedBucketOwner: &s.Account, PublicAccessBlockConfiguration: next,
	})
	if err != nil {
		return failed("s3 PutPublicAccessBlock", s.Bucket, err)
	}
	return nil
}

func (s *setUp) bucketPolicy(d *policy.Document) error {
	text, err := json.Marshal(d)
	if err != nil {
		return failed("writing the policy of bucket", s.Bucket, err)
	}
	got, err := s.S3.GetBucketPolicy(s.ctx, &s3.GetBucketPolicyInput{Bucket: &s.Bucket, ExpectedBucketOwner: &s.Account})
	if err != nil && !hasCode(err, "NoSuchBucketPolicy") {
		return failed("s3 GetBucketPolicy", s.Bucket, err)
	}
	if err == nil {
		current, err := policy.Parse([]byte(aws.ToString(got.Policy)))
		if err != nil {
			return failed("reading the policy of bucket", s.Bucket, err)
		}
		// A role made anew leaves its old id in the stored policy, which then
		// differs in its principal and is written again.
		if same(current, d) {
			return nil
		}
		if err := ours(current, d); err != nil {
			return failed("replacing the policy of bucket", s.Bucket, err)
		}
	}
	return s.putBucketPolicy(string(text))
}

// putBucketPolicy waits for a role that was made a moment ago: IAM is eventually
// consistent, and S3 calls a principal that it does not know yet invalid.
func (s *setUp) putBucketPolicy(text string) error {
	for wait := 500 * time.Millisecond; ; wait *= 2 {
		_, err := s.S3.PutBucketPolicy(s.ctx, &s3.PutBucketPolicyInput{
			Bucket: &s.Bucket, ExpectedBucketOwner: &s.Account, Policy: &text,
		})
		if err == nil {
			return nil
		}
		unknown := hasCode(err, "MalformedPolicy") && strings.Contains(err.Error(), "Invalid principal")
		if !s.newRole || !unknown || wait > 16*time.Second {
			return failed("s3 PutBucketPolicy", s.Bucket, err)
		}
		select {
		case <-s.ctx.Done():
			return failed("s3 PutBucketPolicy", s.Bucket, context.Cause(s.ctx))
		case <-time.After(wait):
		}
	}
}

// status is the HTTP status of AWS's answer, or 0 where there was none.
func status(err error) int {
	var r *smithyhttp.ResponseError
	if errors.As(err, &r) && r.HTTPResponse() != nil {
		return r.HTTPStatusCode()
	}
	return 0
}

// stored reads a document as IAM returns it, percent-encoded.
func stored(text string) (*policy.Document, error) {
	plain, err := url.PathUnescape(text)
	if err != nil {
		return nil, err
	}
	return policy.Parse([]byte(plain))
}

// ours refuses to let a document be replaced that holds statements of somebody
// else: with a Sid that neither Render nor the new document uses, or with none.
func ours(current, next *policy.Document) error {
	known := []string{
		sidTenantSession, sidNoSlashInTag,
		sidTenantList, sidTenantObjects, sidDenyUntagged, sidDenyObjects, sidDenyListing, sidDenyUploads,
	}
	for _, s := range next.Statements {
		known = append(known, s.Sid)
	}
	for i, s := range current.Statements {
		if s.Sid == "" || !slices.Contains(known, s.Sid) {
			return fmt.Errorf("statement %d (Sid %q) is not ours and would be lost; move it elsewhere or remove it first", i+1, s.Sid)
		}
	}
	return nil
}

// same reports whether two documents say the same. AWS keeps neither the order
// of conditions nor that of values.
func same(a, b *policy.Document) bool {
	return reflect.DeepEqual(ordered(a), ordered(b))
}

// ordered is a copy of d in which every list without meaning in its order is
// sorted, and an empty list is nil.
func ordered(d *policy.Document) *policy.Document {
	list := func(l []string) []string {
		if len(l) == 0 {
			return nil
		}
		return slices.Compact(slices.Sorted(slices.Values(l)))
	}
	principals := func(p *policy.Principals) *policy.Principals {
		if p == nil {
			return nil
		}
		return &policy.Principals{
			Any: p.Any, AWS: list(p.AWS), Federated: list(p.Federated),
			Service: list(p.Service), CanonicalUser: list(p.CanonicalUser),
		}
	}
	out := &policy.Document{Version: d.Version, ID: d.ID}
	for _, s := range d.Statements {
		s.Principal, s.NotPrincipal = principals(s.Principal), principals(s.NotPrincipal)
		s.Action, s.NotAction = list(s.Action), list(s.NotAction)
		s.Resource, s.NotResource = list(s.Resource), list(s.NotResource)
		var conditions []policy.Condition
		for _, c := range s.Condition {
			c.Values = list(c.Values)
			conditions = append(conditions, c)
		}
		slices.SortFunc(conditions, func(a, b policy.Condition) int {
			return cmp.Or(strings.Compare(a.Operator, b.Operator), strings.Compare(a.Key, b.Key))
		})
		s.Condition = conditions
		out.Statements = append(out.Statements, s)
	}
	return out
}
