//go:build !federation_fetch

package main

import (
	"context"

	"github.com/spf13/cobra"

	"agentkeys/federation"
)

// bindLive has nothing to bind where documents come from files alone.
func (o *explainOptions) bindLive(*cobra.Command) {}

// live leaves the documents unknown where they are not given as files.
func (o *explainOptions) live(context.Context, *federation.ExplainInput) error { return nil }
