package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"agentkeys/audit"
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
	case a.RoleARN == "" || a.Target.Partition == "" || a.Target.Bucket == "" || a.Target.Prefix == "":
		return fmt.Errorf("making the broker: AWS: want role, partition, bucket and prefix, got %q and %+v", a.RoleARN, a.Target)
	case a.Session < 15*time.Minute || a.Session > 12*time.Hour:
		return fmt.Errorf("making the broker: AWS: want sessions of 15 minutes to 12 hours, got %v", a.Session)
	case a.Token == nil || a.AssumeRole == nil || a.Explain == nil:
		return errors.New("making the broker: AWS: a maker of tokens, a way to STS and an explanation are all required")
	}
	return nil
}

// Anchor is a place beside the database where a record is made durable before
// what it records is released. Put returns nil once the record is durable there;
// putting the same record again does no harm. It is used concurrently.
type Anchor struct {
	Name string // lower-case word, as in the answer's "anchored"
	Put  func(context.Context, audit.Record) error
}

// databaseAnchor is the name of the database among the anchors.
const databaseAnchor = "sqlite"

// anchored names every place that has a record that was released.
func (b *Broker) anchored() []string {
	names := []string{databaseAnchor}
	for _, a := range b.Anchors {
		names = append(names, a.Name)
	}
	return names
}

// anchor makes records durable at every anchor, or says at which it failed. One
// that hangs is given up after anchorTimeout.
func (b *Broker) anchor(ctx context.Context, records ...audit.Record) error {
	if len(b.Anchors) == 0 || len(records) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.anchorFor)
	defer cancel()
	results := make(chan error, len(b.Anchors))
	for _, a := range b.Anchors {
		go func() { results <- a.put(ctx, records) }() // ends with its Put, which has the deadline
	}
	var errs []error
	for range b.Anchors {
		select {
		case err := <-results:
			errs = append(errs, err)
		case <-ctx.Done():
			return errors.Join(append(errs, fmt.Errorf("recording at the anchors: no answer within %v", b.anchorFor))...)
		}
	}
	return errors.Join(errs...)
}

// put brings records together, so that they can share a flush.
func (a Anchor) put(ctx context.Context, records []audit.Record) error {
	results := make(chan error, len(records))
	for _, r := range records {
		go func() { results <- a.Put(ctx, r) }() // ends with the Put, which has the deadline
	}
	for range records {
		if err := <-results; err != nil {
			return fmt.Errorf("recording at anchor %s: %w", a.Name, err)
		}
	}
	return nil
}
