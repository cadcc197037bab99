package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/spf13/cobra"

	"agentkeys/federation"
)

// bindLive gives explain the flag of where AWS is.
func (o *explainOptions) bindLive(cmd *cobra.Command) { o.bindEndpoint(cmd) }

// live fetches the documents in force, and the role's longest session, which the
// listing of the account does not tell.
func (o *explainOptions) live(ctx context.Context, in *federation.ExplainInput) error {
	clients, err := o.awsClients(ctx, in.Config)
	if err != nil {
		var s status
		if errors.As(err, &s) { // wrong use
			return err
		}
		return status{exitInconclusive, err}
	}
	if in.Account, err = federation.Fetch(ctx, clients, in.Config); err != nil {
		return status{exitInconclusive, hint{err, "give the documents as files with --from, or fetch nothing with --offline"}}
	}
	for _, r := range in.Account.Roles {
		if r.ARN != in.Config.RoleARN() && r.ARN != in.RoleARN || r.MaxSession != 0 || in.MaxSession != 0 {
			continue
		}
		out, err := clients.IAM.GetRole(ctx, &iam.GetRoleInput{RoleName: &r.Name})
		if err != nil {
			return status{exitInconclusive, fmt.Errorf("iam GetRole %q: %w", r.Name, err)}
		}
		if in.RoleARN == "" || r.ARN == in.RoleARN {
			in.MaxSession = int(aws.ToInt32(out.Role.MaxSessionDuration))
		}
	}
	return nil
}
