package main

import "github.com/spf13/cobra"

// audit is the group of verbs about the audit log.
func (p *program) audit() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "The audit log: erase a person from it, prune what was exported",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.auditErase())
	return cmd
}
