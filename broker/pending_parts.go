package broker

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"context"
	"time"

	"agentkeys/token"
)

type AssumeRole struct {
	RoleARN     string
	SessionName string
	Policy      string
	Token       token.Secret
	Duration    time.Duration
}
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey token.Secret
	SessionToken    token.Secret
	ExpiresAt       time.Time
	RequestID       string
}
type STSError struct {
	Code, Message string
	Status        int
	RequestID     string
	Unknown       bool
	Attempts      int
}

func (e *STSError) Error() string { return e.Code + e.Message }

type Budgets struct{ PerAccount, PerGrant, PerNetwork int }

func (Budgets) check() error { return nil }

type budget struct{}

func (b *budget) take(key string, now time.Time) (time.Duration, bool) { return 0, true }
func network(s string) string                                          { return s }

var _ context.Context

func newBudgets(Budgets) budgets { return budgets{new(budget), new(budget), new(budget)} }

type STSConfig struct{ Region, Endpoint string }
type STS struct{ c *sts.Client }

func NewSTS(c STSConfig) (*STS, error) {
	return &STS{sts.NewFromConfig(aws.Config{Region: c.Region, BaseEndpoint: aws.String(c.Endpoint)})}, nil
}
func (s *STS) AssumeRole(ctx context.Context, a AssumeRole) (Credentials, error) {
	out, err := s.c.AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{RoleArn: &a.RoleARN, RoleSessionName: &a.SessionName, Policy: &a.Policy,
		WebIdentityToken: aws.String(a.Token.Reveal()), DurationSeconds: aws.Int32(int32(a.Duration / time.Second))})
	if err != nil {
		return Credentials{}, &STSError{Code: err.Error()}
	}
	return Credentials{AccessKeyID: *out.Credentials.AccessKeyId, SecretAccessKey: token.NewSecret(*out.Credentials.SecretAccessKey), SessionToken: token.NewSecret(*out.Credentials.SessionToken), ExpiresAt: *out.Credentials.Expiration}, nil
}
