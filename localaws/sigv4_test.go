package localaws

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// signS3 signs a request as the SDK signs for S3.
func signS3(t *testing.T, r *http.Request, c aws.Credentials, region string, at time.Time, payloadHash string) {
	t.Helper()
	r.Header.Set("X-Amz-Content-Sha256", payloadHash)
	err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).SignHTTP(context.Background(), c, r, payloadHash, "s3", region, at)
	if err != nil {
		t.Fatal(err)
	}
}
