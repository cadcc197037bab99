package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"agentkeys/grant"
	"agentkeys/token"
)

// AWS is what minting AWS credentials takes. Every member is required.
type AWS struct {
	RoleARN string // the data role
	Target  grant.Target
	Session time.Duration // of the credentials, 15 minutes to 12 hours

	// Token signs a web identity token for one call of STS: who calls, the tenant
	// whose tag it carries, and its jti (token.WebIdentities.MintFor).
	Token func(caller, tenant, id string, now time.Time) (token.Secret, token.WebIdentity, error)
	// AssumeRole asks STS (STS.AssumeRole). What may have given credentials although
	// it returned an error is an *STSError that says so.
	AssumeRole func(context.Context, AssumeRole) (Credentials, error)
	// Explain says in a sentence or two why STS refused and what to do.
	Explain func(AssumeRole, *STSError, time.Time) string
}

func (a *AWS) check() error {
	switch {
	case a.RoleARN == "":
		return errors.New("making the broker: AWS: want the ARN of the data role, got none")
	case a.Session < 15*time.Minute || a.Session > 12*time.Hour:
		return fmt.Errorf("making the broker: AWS: want sessions of 15 minutes to 12 hours, got %v", a.Session)
	case a.Token == nil || a.AssumeRole == nil || a.Explain == nil:
		return errors.New("making the broker: AWS: a maker of tokens, a way to STS and an explanation are all required")
	}
	if err := a.Target.Check(); err != nil {
		return fmt.Errorf("making the broker: AWS: %w", err)
	}
	return nil
}
