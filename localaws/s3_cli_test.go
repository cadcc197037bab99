package localaws

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// s3CLI runs the AWS CLI in a folder of its own, for its text output.
type s3CLI struct {
	*cli
	t   *testing.T
	dir string
}

func newS3CLI(t *testing.T, path string, a *account, c aws.Config) *s3CLI {
	t.Helper()
	credentials, err := c.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &s3CLI{newCLI(t, path, a.url, credentials.AccessKeyID, credentials.SecretAccessKey, credentials.SessionToken), t, t.TempDir()}
	config := filepath.Join(s.dir, "config")
	s.env = append(s.env, "AWS_CONFIG_FILE="+config)
	// Version 1 of the CLI presigns by Signature Version 2 otherwise, which S3
	// takes for old buckets only.
	if err := os.WriteFile(config, []byte("[default]\ns3 =\n  signature_version = s3v4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (c *s3CLI) run(args ...string) (out string, ok bool) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), c.path, append([]string{"--endpoint-url", c.url}, args...)...)
	cmd.Dir, cmd.Env = c.dir, c.env
	both, err := cmd.CombinedOutput()
	return string(both), err == nil
}

func (c *s3CLI) must(args ...string) string {
	c.t.Helper()
	out, ok := c.run(args...)
	if !ok {
		c.t.Fatalf("aws %s: %s", strings.Join(args, " "), out)
	}
	return out
}

// TestS3CLI drives the S3 side with every AWS CLI there is.
func TestS3CLI(t *testing.T) {
	for _, path := range awsCLIs(t) {
		t.Run(path, func(t *testing.T) { driveS3CLI(t, path) })
	}
}

func driveS3CLI(t *testing.T, path string) {
	a, client := newBucket(t)
	admin := newS3CLI(t, path, a, a.adminSDK())
	big := bytes.Repeat([]byte("0123456789abcde\n"), 9<<20/16)
	if err := os.WriteFile(filepath.Join(admin.dir, "big.bin"), big, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(admin.dir, "small.txt"), []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url := "s3://" + testBucket + "/"
	admin.must("s3", "cp", "small.txt", url+"bots/a/k 1+ü.txt", "--metadata", "color=blue")
	admin.must("s3", "cp", "big.bin", url+"bots/a/big.bin")               // nine MiB: two parts
	admin.must("s3", "cp", url+"bots/a/big.bin", url+"bots/b/copied.bin") // UploadPartCopy
	admin.must("s3", "cp", url+"bots/b/copied.bin", "back.bin")
	back, err := os.ReadFile(filepath.Join(admin.dir, "back.bin"))
	if err != nil || !bytes.Equal(back, big) {
		t.Fatalf("got %d bytes back, %v; want %d", len(back), err, len(big))
	}
	if out := admin.must("s3", "ls", url+"bots/a/"); !strings.Contains(out, "k 1+ü.txt") || !strings.Contains(out, "9437184 big.bin") {
		t.Errorf("got %s", out)
	}
	if out := admin.must("s3api", "get-object", "--bucket", testBucket, "--key", "bots/a/k 1+ü.txt", "--range", "bytes=0-3", "out"); !strings.Contains(out, `"color": "blue"`) {
		t.Errorf("got %s", out)
	}
	admin.must("s3api", "put-bucket-policy", "--bucket", testBucket, "--policy", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"`+bucketARN+`/secret/*"}]}`)
	if out := admin.must("s3api", "get-bucket-policy", "--bucket", testBucket, "--query", "Policy", "--output", "text"); !strings.Contains(out, bucketARN+"/secret/*") {
		t.Errorf("got %s", out)
	}
	tenant := newS3CLI(t, path, a, a.session("data", allow("s3:GetObject", bucketARN+"/bots/a/*", ""), map[string]string{"w": "a"}))
	if out, ok := tenant.run("s3api", "get-object", "--bucket", testBucket, "--key", "bots/b/copied.bin", "out"); ok || !strings.Contains(out, "(AccessDenied)") || !strings.Contains(out, "because no identity-based policy allows the s3:GetObject action") {
		t.Errorf("got %s", out)
	}
	signed := strings.TrimSpace(tenant.must("s3", "presign", url+"bots/a/k 1+ü.txt"))
	if status, body := anonymous(t, "GET", signed); status != 200 || body != "hello\n" {
		t.Errorf("presigned: got %d %s", status, body)
	}
	admin.must("s3", "rm", "--recursive", url) // DeleteObjects or one by one
	if keys, err := listKeys(client, nil); err != nil || len(keys) != 0 {
		t.Errorf("got %v, %v; want an empty bucket", keys, err)
	}
}
