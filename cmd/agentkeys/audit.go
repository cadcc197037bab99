package main

import "github.com/spf13/cobra"

// audit is the group of verbs that read the audit log.
func (p *program) audit() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "The audit log: hold it against AWS's own",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.auditReconcile())
	return cmd
}
