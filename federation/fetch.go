package federation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/s3control"
	s3controltypes "github.com/aws/aws-sdk-go-v2/service/s3control/types"
	"github.com/aws/smithy-go"
	smithyendpoints "github.com/aws/smithy-go/endpoints"
)

// Fetch reads an account from AWS, with calls that only read. What it needs is
// everybody's rights in IAM and the bucket's policy: without them there is
// nothing to judge, and it fails. What the caller may not read besides, or the
// endpoint does not offer, is named in NotLookedAt. The control policies of an
// organization are never asked for: only its management account can read them.
func Fetch(ctx context.Context, a AWS, c Config) (*Account, error) {
	f, err := FetchFiles(ctx, a, c)
	if err != nil {
		return nil, err
	}
	return f.Account()
}

// Files is an account as AWS showed it, in the form of the files that ReadAccount
// reads. So what is judged at once and what an auditor judges elsewhere, from
// what Save wrote, is read by the same code.
type Files struct {
	source  string
	content map[string][]byte
	missing map[string]string // why a file is not there
}

// FetchFiles is Fetch for somebody who wants to keep what AWS said.
func FetchFiles(ctx context.Context, a AWS, c Config) (*Files, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	f := fetch{AWS: a, Config: c, ctx: ctx, files: Files{
		source: fetchSource(a, c), content: map[string][]byte{}, missing: map[string]string{},
	}}
	for _, part := range []func() error{
		f.config, f.details, f.bucketPolicy, f.providers, f.publicAccess, f.ownership, f.acl, f.accessPoints,
	} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	return &f.files, nil
}

// Account reads the files.
func (f *Files) Account() (*Account, error) {
	r := folder{missing: f.missing, read: func(name string) ([]byte, error) {
		data, ok := f.content[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return data, nil
	}}
	return r.readAccount(f.source)
}

// fetchSource names the account and where it was asked, so that a local run is
// never mistaken for AWS.
func fetchSource(a AWS, c Config) string {
	asked := []string{"AWS"}
	for _, endpoint := range []*string{a.IAM.Options().BaseEndpoint, a.S3.Options().BaseEndpoint} {
		if endpoint != nil && !slices.Contains(asked, *endpoint) {
			asked = append(asked, *endpoint)
		}
	}
	if a.IAM.Options().BaseEndpoint != nil && a.S3.Options().BaseEndpoint != nil {
		asked = asked[1:]
	}
	return strings.Join(asked, " and ") + ", account " + c.Account + ", " + c.Region
}

// fetch is one run of FetchFiles.
type fetch struct {
	AWS
	Config
	ctx   context.Context
	files Files
}

func fetchFailed(call, thing string, err error) error {
	return fmt.Errorf("fetching the account: %s %q: %w", call, thing, err)
}

func (f *fetch) config() error { return f.keep(fileConfig, f.Config) }

// keep writes an answer of AWS in the form in which the AWS CLI prints it.
func (f *fetch) keep(name string, answer any) error {
	data, err := cliJSON(answer)
	if err != nil {
		return fmt.Errorf("fetching the account: writing %s: %w", name, err)
	}
	f.files.content[name] = data
	return nil
}

// optional is what becomes of an error in a part that need not be looked at: a
// reason not to have looked, or, where it says nothing about rights or the
// endpoint's abilities, an error still.
func (f *fetch) optional(name, call, thing string, err error) error {
	switch {
	case hasCode(err, "AccessDenied", "AccessDeniedException"):
		f.files.missing[name] = call + ": " + answered(err)
	case notOffered(err):
		f.files.missing[name] = "the endpoint does not offer " + call + ": " + answered(err)
	default:
		return fetchFailed(call, thing, err)
	}
	return nil
}

// notOffered reports whether an endpoint does not know the call.
func notOffered(err error) bool {
	return hasCode(err, "NotImplemented", "InvalidAction", "UnknownOperationException") ||
		status(err) == http.StatusNotImplemented || status(err) == http.StatusMethodNotAllowed
}

// unknownError is the code that the SDK has for an answer in which it finds none.
const unknownError = "UnknownError"

// answered is the error code of an answer, or its HTTP status where there is none.
func answered(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() != unknownError {
		return oneLine(api.ErrorCode())
	}
	return fmt.Sprintf("HTTP %d", status(err))
}

// iamDetails gathers the pages of the one call that shows all of IAM.
type iamDetails struct {
	UserDetailList  []iamtypes.UserDetail
	GroupDetailList []iamtypes.GroupDetail
	RoleDetailList  []iamtypes.RoleDetail
	Policies        []iamtypes.ManagedPolicyDetail
}

func (f *fetch) details() error {
	const call = "iam GetAccountAuthorizationDetails"
	all := iamDetails{
		[]iamtypes.UserDetail{}, []iamtypes.GroupDetail{}, []iamtypes.RoleDetail{}, []iamtypes.ManagedPolicyDetail{},
	}
	pages := iam.NewGetAccountAuthorizationDetailsPaginator(f.IAM, &iam.GetAccountAuthorizationDetailsInput{
		Filter: iamtypes.EntityType("").Values(),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(f.ctx)
		if err != nil {
			return fetchFailed(call, f.Config.Account, err)
		}
		all.UserDetailList = append(all.UserDetailList, page.UserDetailList...)
		all.GroupDetailList = append(all.GroupDetailList, page.GroupDetailList...)
		all.RoleDetailList = append(all.RoleDetailList, page.RoleDetailList...)
		all.Policies = append(all.Policies, page.Policies...)
	}
	if err := f.checkRole(all.RoleDetailList); err != nil {
		return err
	}
	return f.keep(fileIAM, all)
}

// checkRole sees that the account is the configured one and has the data role.
func (f *fetch) checkRole(roles []iamtypes.RoleDetail) error {
	found := false
	for _, r := range roles {
		if parsed, err := arn.Parse(aws.ToString(r.Arn)); err == nil && parsed.AccountID != f.Config.Account {
			return fmt.Errorf("fetching the account: want account %s, the credentials are of account %s", f.Config.Account, oneLine(parsed.AccountID))
		}
		found = found || aws.ToString(r.RoleName) == f.Role
	}
	if !found {
		return fmt.Errorf("fetching the account: account %s has no role %q, which is to be the data role", f.Config.Account, f.Role)
	}
	return nil
}

func (f *fetch) providers() error {
	const list, get = "iam ListOpenIDConnectProviders", "iam GetOpenIDConnectProvider"
	listed, err := f.IAM.ListOpenIDConnectProviders(f.ctx, &iam.ListOpenIDConnectProvidersInput{})
	if err != nil {
		return f.optional(fileProviders, list, f.Config.Account, err)
	}
	type provider struct {
		Arn *string
		*iam.GetOpenIDConnectProviderOutput
	}
	all := []provider{}
	for _, p := range listed.OpenIDConnectProviderList {
		got, err := f.IAM.GetOpenIDConnectProvider(f.ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: p.Arn})
		switch {
		case hasCode(err, "NoSuchEntity"): // deleted since it was listed
		case err != nil:
			return f.optional(fileProviders, get, aws.ToString(p.Arn), err)
		default:
			all = append(all, provider{p.Arn, got})
		}
	}
	return f.keep(fileProviders, all)
}

// bucketPolicy names the account as the expected owner, as every call to S3 does:
// bucket names are global, and somebody else's bucket says nothing about ours.
func (f *fetch) bucketPolicy() error {
	got, err := f.S3.GetBucketPolicy(f.ctx, &s3.GetBucketPolicyInput{Bucket: &f.Bucket, ExpectedBucketOwner: &f.Config.Account})
	switch {
	case hasCode(err, "NoSuchBucketPolicy"):
		return f.keep(fileBucketPolicy, struct{}{})
	case hasCode(err, "NoSuchBucket"):
		return fmt.Errorf("fetching the account: there is no bucket %q", f.Bucket)
	case err != nil:
		return fetchFailed("s3 GetBucketPolicy", f.Bucket, err)
	}
	return f.keep(fileBucketPolicy, got)
}

func (f *fetch) publicAccess() error {
	got, err := f.S3.GetPublicAccessBlock(f.ctx, &s3.GetPublicAccessBlockInput{Bucket: &f.Bucket, ExpectedBucketOwner: &f.Config.Account})
	if hasCode(err, "NoSuchPublicAccessBlockConfiguration") {
		got, err = &s3.GetPublicAccessBlockOutput{PublicAccessBlockConfiguration: &s3types.PublicAccessBlockConfiguration{}}, nil
	}
	if err != nil {
		return f.optional(filePublicAccess, "s3 GetPublicAccessBlock", f.Bucket, err)
	}
	return f.keep(filePublicAccess, got)
}

func (f *fetch) ownership() error {
	got, err := f.S3.GetBucketOwnershipControls(f.ctx, &s3.GetBucketOwnershipControlsInput{
		Bucket: &f.Bucket, ExpectedBucketOwner: &f.Config.Account,
	})
	if hasCode(err, "OwnershipControlsNotFoundError") {
		got, err = &s3.GetBucketOwnershipControlsOutput{OwnershipControls: &s3types.OwnershipControls{Rules: []s3types.OwnershipControlsRule{}}}, nil
	}
	if err != nil {
		return f.optional(fileOwnership, "s3 GetBucketOwnershipControls", f.Bucket, err)
	}
	return f.keep(fileOwnership, got)
}

func (f *fetch) acl() error {
	got, err := f.S3.GetBucketAcl(f.ctx, &s3.GetBucketAclInput{Bucket: &f.Bucket, ExpectedBucketOwner: &f.Config.Account})
	if err != nil {
		return f.optional(fileACL, "s3 GetBucketAcl", f.Bucket, err)
	}
	return f.keep(fileACL, got)
}

// jsonAccessPoint is an access point with its policy, which is another call.
type jsonAccessPoint struct {
	*s3control.GetAccessPointOutput
	Policy *string
}

func (f *fetch) accessPoints() error {
	const call = "s3control ListAccessPoints"
	if f.Control == nil {
		f.files.missing[fileAccessPoints] = "no client for s3control"
		return nil
	}
	all := []jsonAccessPoint{}
	pages := s3control.NewListAccessPointsPaginator(f.Control, &s3control.ListAccessPointsInput{
		AccountId: &f.Config.Account, Bucket: &f.Bucket,
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(f.ctx)
		// A server without s3control takes the path for an object's, and its errors are
		// of another form than s3control's.
		if hasCode(err, unknownError) && status(err) < http.StatusInternalServerError {
			f.files.missing[fileAccessPoints] = "the endpoint does not offer " + call + ": " + answered(err)
			return nil
		}
		if err != nil {
			return f.optional(fileAccessPoints, call, f.Bucket, err)
		}
		for _, listed := range page.AccessPointList {
			p, call, err := f.accessPoint(listed)
			switch {
			case hasCode(err, "NoSuchAccessPoint"): // deleted since it was listed
			case err != nil:
				return f.optional(fileAccessPoints, call, aws.ToString(listed.Name), err)
			default:
				all = append(all, p)
			}
		}
	}
	return f.keep(fileAccessPoints, all)
}

// accessPoint asks for one of them. Where that fails it names the call.
func (f *fetch) accessPoint(listed s3controltypes.AccessPoint) (_ jsonAccessPoint, call string, err error) {
	call = "s3control GetAccessPoint"
	p := jsonAccessPoint{}
	p.GetAccessPointOutput, err = f.Control.GetAccessPoint(f.ctx, &s3control.GetAccessPointInput{
		AccountId: &f.Config.Account, Name: listed.Name,
	})
	if err != nil {
		return p, call, err
	}
	call = "s3control GetAccessPointPolicy"
	got, err := f.Control.GetAccessPointPolicy(f.ctx, &s3control.GetAccessPointPolicyInput{
		AccountId: &f.Config.Account, Name: listed.Name,
	})
	switch {
	case hasCode(err, "NoSuchAccessPointPolicy"):
		return p, call, nil
	case err != nil:
		return p, call, err
	}
	p.Policy = got.Policy
	return p, call, nil
}

// NewControl is a client for S3's control plane. AWS's names for it begin with the
// account's number; any other endpoint is called by the one name it has.
func NewControl(c aws.Config) *s3control.Client {
	return s3control.NewFromConfig(c, func(o *s3control.Options) {
		if o.BaseEndpoint != nil {
			o.EndpointResolverV2 = oneEndpoint(*o.BaseEndpoint)
		}
	})
}

type oneEndpoint string

// ResolveEndpoint is for s3control.EndpointResolverV2.
func (e oneEndpoint) ResolveEndpoint(context.Context, s3control.EndpointParameters) (smithyendpoints.Endpoint, error) {
	u, err := url.Parse(string(e))
	if err != nil {
		return smithyendpoints.Endpoint{}, err
	}
	return smithyendpoints.Endpoint{URI: *u}, nil
}
