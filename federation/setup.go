package federation

import (
	"context"
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3control"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"agentkeys/policy"
)

// AWS is an account: clients with the credentials of an administrator, or for
// Fetch of somebody who may read all that counts.
type AWS struct {
	IAM     *iam.Client
	S3      *s3.Client
	STS     *sts.Client       // asked whose the credentials are; nil: nobody asks
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
// somebody else, it stops with an error, before it changes anything, rather than
// drop them. Each error names the call and the thing. For an account that is in
// use, MakePlan shows first and can do more.
func SetUp(ctx context.Context, a AWS, c Config, d Documents, inline map[string]*policy.Document) error {
	plan, err := MakePlan(ctx, a, c, d, PlanOptions{setUp: true, inline: inline})
	if err != nil {
		return err
	}
	return Apply(ctx, plan, nil)
}

// hasCode reports whether AWS answered with one of the error codes.
func hasCode(err error, codes ...string) bool {
	var e smithy.APIError
	return errors.As(err, &e) && slices.Contains(codes, e.ErrorCode())
}

// status is the HTTP status of AWS's answer, or 0 where there was none.
func status(err error) int {
	var r *smithyhttp.ResponseError
	if errors.As(err, &r) && r.HTTPResponse() != nil {
		return r.HTTPStatusCode()
	}
	return 0
}
