package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"agentkeys": main,
		"signheads": signHeads,
		"sqlite3":   sqliteShell,
	})
}

// The stories of testdata are what a person does with the program, step by step.
func TestStories(t *testing.T) {
	const pattern = "testdata/*.txt"
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories match %s (%v)", pattern, err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			// The AWS CLI must find neither a configuration nor a metadata service.
			env.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			env.Setenv("AWS_PAGER", "")
			env.Setenv("AWS_REGION", localRegion)
			env.Setenv("AWS_DEFAULT_REGION", localRegion)
			env.Setenv("AWS_CONFIG_FILE", filepath.Join(env.WorkDir, "aws-config"))
			env.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(env.WorkDir, "aws-credentials"))
			for _, page := range []string{"README.md", "docs/audit.md", "docs/audit-events.md", "docs/audit-http.md", "docs/grants.md", "docs/runbook.md"} {
				text, err := os.ReadFile(filepath.Join("../..", page))
				if err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(env.WorkDir, filepath.Base(page)), text, 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ports": ports,
			"until": waitFor,
		},
	})
}
