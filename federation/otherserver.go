package federation

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// maxError is as much of an error's answer as is read.
const maxError = 1 << 16

// stsClient makes the requests to STS.
//
// AWS's STS wraps an error into <ErrorResponse>, as its protocol has it. Ceph's
// RADOS gateway answers <Error>, as S3 does, and the SDK reads no code from that. It
// is read at servers of others alone: at AWS such an answer comes from S3, not from
// STS, and is no refusal by the role.
func stsClient(target TargetReport, client aws.HTTPClient) aws.HTTPClient {
	if target.Kind != "other" {
		return client
	}
	return bareErrors{client}
}

// bareErrors wraps errors that come without the wrapping of the query protocol.
type bareErrors struct{ aws.HTTPClient }

func (c bareErrors) Do(r *http.Request) (*http.Response, error) {
	answer, err := c.HTTPClient.Do(r)
	if err != nil || answer.StatusCode < http.StatusBadRequest {
		return answer, err
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxError))
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return nil, err
	}
	answer.Body = io.NopCloser(bytes.NewReader(wrapError(body)))
	return answer, nil
}

// wrapError returns the body as it is unless it is a bare error with a code.
func wrapError(body []byte) []byte {
	var bare struct {
		XMLName xml.Name `xml:"Error"`
		Code    string   `xml:"Code"`
		Message string   `xml:"Message"`
	}
	if err := xml.Unmarshal(body, &bare); err != nil || bare.Code == "" {
		return body
	}
	type fields struct{ Code, Message string }
	wrapped, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"ErrorResponse"`
		Error   fields
	}{Error: fields{bare.Code, bare.Message}})
	if err != nil {
		return body
	}
	return wrapped
}
