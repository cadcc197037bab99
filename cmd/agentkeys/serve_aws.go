package main

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"agentkeys/broker"
	"agentkeys/config"
	"agentkeys/federation"
	"agentkeys/grant"
	"agentkeys/token"
)

// logAWS says in one line what AWS credentials are minted for, and under what.
func logAWS(log *slog.Logger, c config.Config) {
	if !c.AWS.Configured() {
		return // awsPart said so
	}
	sts := c.STSEndpoint
	if sts == "" {
		sts = "AWS's own for the region"
	}
	log.Info("AWS credentials are minted", "account", c.AWS.Account, "region", c.AWS.Region, "role", c.AWS.Role, "bucket", c.AWS.Bucket,
		"prefix", c.AWS.Prefix, "session", c.AWSSessionTTL.String(), "sts", sts, "anchors", strings.Join(c.Anchors, ","), "grant_required", c.RequireGrant)
}

// awsPart is what the broker takes to mint AWS credentials, and nil where no account
// is configured.
func awsPart(c config.Config, identities *token.WebIdentities, log *slog.Logger) (*broker.AWS, error) {
	if !c.AWS.Configured() {
		log.Info("no AWS credentials are minted, since BROKER_AWS_ACCOUNT, BROKER_AWS_REGION and BROKER_AWS_BUCKET are not set")
		return nil, nil
	}
	f := federation.Config{Issuer: c.Issuer, Account: c.AWS.Account, Region: c.AWS.Region, Role: c.AWS.Role, Bucket: c.AWS.Bucket,
		Prefix: c.AWS.Prefix, TagKey: c.OIDCTagKey, Audience: c.OIDCAudience}
	if err := f.Validate(); err != nil {
		return nil, fmt.Errorf("minting AWS credentials: %w", err)
	}
	sts, err := broker.NewSTS(broker.STSConfig{Region: c.AWS.Region, Endpoint: c.STSEndpoint})
	if err != nil {
		return nil, err
	}
	return &broker.AWS{
		RoleARN: f.RoleARN(), Target: grant.Target{Partition: f.Partition(), Bucket: f.Bucket, Prefix: f.Prefix}, Session: c.AWSSessionTTL,
		Token: identities.MintFor, AssumeRole: sts.AssumeRole,
		Explain: func(ask broker.AssumeRole, e *broker.STSError, now time.Time) string {
			return explainRefusal(f, ask, e, now)
		},
	}, nil
}
