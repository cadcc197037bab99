package federation

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"agentkeys/policy"
)

// site is where a plan is made and applied: every call to AWS that either makes,
// for the things that one configuration names. What reads returns nil or "" where
// there is nothing. Errors name the call and the thing.
//
// Every call to S3 names the account as the expected owner: bucket names are
// global, and somebody else's bucket of this name must not get our policy or our
// tenants' data.
type site struct {
	AWS
	Config
}

// caller is the account that the credentials belong to.
func (s site) caller(ctx context.Context) (string, error) {
	got, err := s.STS.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", failed("sts GetCallerIdentity", s.Account, err)
	}
	return aws.ToString(got.Account), nil
}

// clientIDs are the client ids of the provider; nil: there is no provider.
type clientIDs []string

func (ids clientIDs) text(c Config) string {
	if ids == nil {
		return ""
	}
	return jsonIndented(struct {
		URL          string `json:"Url"`
		ClientIDList []string
	}{c.Issuer, slices.Sorted(slices.Values(ids))})
}

func (s site) clientIDs(ctx context.Context) (clientIDs, error) {
	arn := s.ProviderARN()
	got, err := s.IAM.GetOpenIDConnectProvider(ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: &arn})
	if hasCode(err, "NoSuchEntity") {
		return nil, nil
	}
	if err != nil {
		return nil, failed("iam GetOpenIDConnectProvider", arn, err)
	}
	return append(clientIDs{}, got.ClientIDList...), nil
}

func (s site) createProvider(ctx context.Context) error {
	_, err := s.IAM.CreateOpenIDConnectProvider(ctx, &iam.CreateOpenIDConnectProviderInput{
		Url: &s.Issuer, ClientIDList: []string{s.Audience},
	})
	return failed("iam CreateOpenIDConnectProvider", s.Issuer, err)
}

func (s site) addClientID(ctx context.Context) error {
	arn := s.ProviderARN()
	_, err := s.IAM.AddClientIDToOpenIDConnectProvider(ctx, &iam.AddClientIDToOpenIDConnectProviderInput{
		OpenIDConnectProviderArn: &arn, ClientID: &s.Audience,
	})
	return failed("iam AddClientIDToOpenIDConnectProvider", arn, err)
}

func (s site) getRole(ctx context.Context) (*iamtypes.Role, error) {
	got, err := s.IAM.GetRole(ctx, &iam.GetRoleInput{RoleName: &s.Role})
	if hasCode(err, "NoSuchEntity") {
		return nil, nil
	}
	if err != nil {
		return nil, failed("iam GetRole", s.Role, err)
	}
	return got.Role, nil
}

func (s site) trust(ctx context.Context) (*policy.Document, error) {
	role, err := s.getRole(ctx)
	if err != nil || role == nil {
		return nil, err
	}
	return s.trustOf(role)
}

func (s site) trustOf(role *iamtypes.Role) (*policy.Document, error) {
	d, err := stored(aws.ToString(role.AssumeRolePolicyDocument))
	return d, failed("reading the trust policy of role", s.Role, err)
}

func (s site) createRole(ctx context.Context, trust *policy.Document) error {
	text, err := json.Marshal(trust)
	if err != nil {
		return failed("writing the trust policy of role", s.Role, err)
	}
	_, err = s.IAM.CreateRole(ctx, &iam.CreateRoleInput{
		RoleName:                 &s.Role,
		AssumeRolePolicyDocument: aws.String(string(text)),
		Description:              aws.String(roleDescription),
	})
	return failed("iam CreateRole", s.Role, err)
}

func (s site) updateTrust(ctx context.Context, trust *policy.Document) error {
	text, err := json.Marshal(trust)
	if err != nil {
		return failed("writing the trust policy of role", s.Role, err)
	}
	_, err = s.IAM.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{
		RoleName: &s.Role, PolicyDocument: aws.String(string(text)),
	})
	return failed("iam UpdateAssumeRolePolicy", s.Role, err)
}

func (s site) untagRole(ctx context.Context, key string) error {
	_, err := s.IAM.UntagRole(ctx, &iam.UntagRoleInput{RoleName: &s.Role, TagKeys: []string{key}})
	return failed("iam UntagRole", s.Role+"/"+key, err)
}

// inlineNames are the names of the role's inline policies, in order.
func (s site) inlineNames(ctx context.Context) ([]string, error) {
	var names []string
	for pages := iam.NewListRolePoliciesPaginator(s.IAM, &iam.ListRolePoliciesInput{RoleName: &s.Role}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, failed("iam ListRolePolicies", s.Role, err)
		}
		names = append(names, page.PolicyNames...)
	}
	slices.Sort(names)
	return names, nil
}

func (s site) inline(ctx context.Context, name string) (*policy.Document, error) {
	text, err := s.inlineText(ctx, name)
	if err != nil || text == "" {
		return nil, err
	}
	d, err := policy.Parse([]byte(text))
	return d, failed("reading the inline policy", s.Role+"/"+name, err)
}

// inlineText is an inline policy as it was put.
func (s site) inlineText(ctx context.Context, name string) (string, error) {
	thing := s.Role + "/" + name
	got, err := s.IAM.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &s.Role, PolicyName: &name})
	if hasCode(err, "NoSuchEntity") {
		return "", nil
	}
	if err != nil {
		return "", failed("iam GetRolePolicy", thing, err)
	}
	text, err := url.PathUnescape(aws.ToString(got.PolicyDocument))
	return text, failed("reading the inline policy", thing, err)
}

func (s site) putInline(ctx context.Context, name string, d *policy.Document) error {
	thing := s.Role + "/" + name
	text, err := json.Marshal(d)
	if err != nil {
		return failed("writing the inline policy", thing, err)
	}
	_, err = s.IAM.PutRolePolicy(ctx, &iam.PutRolePolicyInput{
		RoleName: &s.Role, PolicyName: &name, PolicyDocument: aws.String(string(text)),
	})
	return failed("iam PutRolePolicy", thing, err)
}

func (s site) deleteInline(ctx context.Context, name string) error {
	_, err := s.IAM.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &s.Role, PolicyName: &name})
	return failed("iam DeleteRolePolicy", s.Role+"/"+name, err)
}

// attached are the ARNs of the managed policies on the role, in order.
func (s site) attached(ctx context.Context) ([]string, error) {
	var arns []string
	for pages := iam.NewListAttachedRolePoliciesPaginator(s.IAM, &iam.ListAttachedRolePoliciesInput{RoleName: &s.Role}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, failed("iam ListAttachedRolePolicies", s.Role, err)
		}
		for _, a := range page.AttachedPolicies {
			arns = append(arns, aws.ToString(a.PolicyArn))
		}
	}
	slices.Sort(arns)
	return arns, nil
}

// managed is the default version of a managed policy, which alone is in force.
func (s site) managed(ctx context.Context, arn string) (*policy.Document, error) {
	got, err := s.IAM.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: &arn})
	if err != nil {
		return nil, failed("iam GetPolicy", arn, err)
	}
	version, err := s.IAM.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: &arn, VersionId: got.Policy.DefaultVersionId})
	if err != nil {
		return nil, failed("iam GetPolicyVersion", arn, err)
	}
	d, err := stored(aws.ToString(version.PolicyVersion.Document))
	return d, failed("reading the managed policy", arn, err)
}

func (s site) detach(ctx context.Context, arn string) error {
	_, err := s.IAM.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: &s.Role, PolicyArn: &arn})
	return failed("iam DetachRolePolicy", s.Role+"/"+arn, err)
}

func (s site) bucketThere(ctx context.Context) (bool, error) {
	_, err := s.S3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.Bucket, ExpectedBucketOwner: &s.Account})
	switch status(err) { // an answer to HEAD has no body that would say more
	case http.StatusNotFound:
		return false, nil
	case http.StatusForbidden:
		err = fmt.Errorf("the bucket is another account's, or the credentials may not list it: %w", err)
	case http.StatusMovedPermanently:
		err = fmt.Errorf("the bucket is in another region than %s: %w", s.Region, err)
	}
	return err == nil, failed("s3 HeadBucket", s.Bucket, err)
}

func (s site) createBucket(ctx context.Context) error {
	in := &s3.CreateBucketInput{Bucket: &s.Bucket}
	if s.Region != "us-east-1" { // where S3 refuses the element
		in.CreateBucketConfiguration = &s3types.CreateBucketConfiguration{
			LocationConstraint: s3types.BucketLocationConstraint(s.Region),
		}
	}
	_, err := s.S3.CreateBucket(ctx, in)
	return failed("s3 CreateBucket", s.Bucket, err)
}

func (s site) ownership(ctx context.Context) (string, error) {
	got, err := s.S3.GetBucketOwnershipControls(ctx, &s3.GetBucketOwnershipControlsInput{
		Bucket: &s.Bucket, ExpectedBucketOwner: &s.Account,
	})
	if hasCode(err, "OwnershipControlsNotFoundError") {
		return "", nil
	}
	if err != nil {
		return "", failed("s3 GetBucketOwnershipControls", s.Bucket, err)
	}
	var have OwnershipControls
	for _, r := range got.OwnershipControls.Rules {
		have.Rules = append(have.Rules, OwnershipRule{string(r.ObjectOwnership)})
	}
	return jsonIndented(have), nil
}

func (s site) putOwnership(ctx context.Context, want OwnershipControls) error {
	next := &s3types.OwnershipControls{}
	for _, r := range want.Rules {
		next.Rules = append(next.Rules, s3types.OwnershipControlsRule{ObjectOwnership: s3types.ObjectOwnership(r.ObjectOwnership)})
	}
	_, err := s.S3.PutBucketOwnershipControls(ctx, &s3.PutBucketOwnershipControlsInput{
		Bucket: &s.Bucket, ExpectedBucketOwner: &s.Account, OwnershipControls: next,
	})
	return failed("s3 PutBucketOwnershipControls", s.Bucket, err)
}

func (s site) publicAccess(ctx context.Context) (string, error) {
	got, err := s.S3.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{
		Bucket: &s.Bucket, ExpectedBucketOwner: &s.Account,
	})
	if hasCode(err, "NoSuchPublicAccessBlockConfiguration") {
		return "", nil
	}
	if err != nil {
		return "", failed("s3 GetPublicAccessBlock", s.Bucket, err)
	}
	have := got.PublicAccessBlockConfiguration
	return jsonIndented(PublicAccessBlock{
		BlockPublicAcls:       aws.ToBool(have.BlockPublicAcls),
		IgnorePublicAcls:      aws.ToBool(have.IgnorePublicAcls),
		BlockPublicPolicy:     aws.ToBool(have.BlockPublicPolicy),
		RestrictPublicBuckets: aws.ToBool(have.RestrictPublicBuckets),
	}), nil
}

func (s site) putPublicAccess(ctx context.Context, want PublicAccessBlock) error {
	_, err := s.S3.PutPublicAccessBlock(ctx, &s3.PutPublicAccessBlockInput{
		Bucket: &s.Bucket, ExpectedBucketOwner: &s.Account,
		PublicAccessBlockConfiguration: &s3types.PublicAccessBlockConfiguration{
			BlockPublicAcls:       &want.BlockPublicAcls,
			IgnorePublicAcls:      &want.IgnorePublicAcls,
			BlockPublicPolicy:     &want.BlockPublicPolicy,
			RestrictPublicBuckets: &want.RestrictPublicBuckets,
		},
	})
	return failed("s3 PutPublicAccessBlock", s.Bucket, err)
}

func (s site) getBucketPolicy(ctx context.Context) (*policy.Document, error) {
	got, err := s.S3.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: &s.Bucket, ExpectedBucketOwner: &s.Account})
	if hasCode(err, "NoSuchBucketPolicy") {
		return nil, nil
	}
	if err != nil {
		return nil, failed("s3 GetBucketPolicy", s.Bucket, err)
	}
	d, err := policy.Parse([]byte(aws.ToString(got.Policy)))
	return d, failed("reading the policy of bucket", s.Bucket, err)
}

// putBucketPolicy waits for a role that was made a moment ago: IAM is eventually
// consistent, and S3 calls a principal that it does not know yet invalid.
func (s site) putBucketPolicy(ctx context.Context, d *policy.Document, fresh bool) error {
	text, err := json.Marshal(d)
	if err != nil {
		return failed("writing the policy of bucket", s.Bucket, err)
	}
	for wait := 500 * time.Millisecond; ; wait *= 2 {
		_, err := s.S3.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{
			Bucket: &s.Bucket, ExpectedBucketOwner: &s.Account, Policy: aws.String(string(text)),
		})
		if err == nil {
			return nil
		}
		unknown := hasCode(err, "MalformedPolicy") && strings.Contains(err.Error(), "Invalid principal")
		if !fresh || !unknown || wait > 16*time.Second {
			return failed("s3 PutBucketPolicy", s.Bucket, err)
		}
		select {
		case <-ctx.Done():
			return failed("s3 PutBucketPolicy", s.Bucket, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

// stored reads a document as IAM returns it, percent-encoded.
func stored(text string) (*policy.Document, error) {
	plain, err := url.PathUnescape(text)
	if err != nil {
		return nil, err
	}
	return policy.Parse([]byte(plain))
}

// failed names the call and the thing it was for. It is nil for no error.
func failed(call, thing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("setting up AWS: %s %q: %w", call, thing, err)
}
