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

// maxRequest is more than any request of a proof has, headers and body together.
const maxRequest = 64 << 10

// wholeRequests has each request written in one piece. The SDK's bodies are streams
// to net/http, which sends the headers before them; a server that refuses by the
// headers alone and hangs up, as Ceph's RADOS gateway does, then breaks off its
// answer. ("Expect: 100-continue" would be for that, but the gateway of 16.2 loses
// step after it and reads the next request wrongly.)
type wholeRequests struct{ aws.HTTPClient }

func (c wholeRequests) Do(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.ContentLength <= 0 || r.ContentLength > maxRequest {
		return c.HTTPClient.Do(r)
	}
	body, err := io.ReadAll(r.Body)
	if err := errors.Join(err, r.Body.Close()); err != nil {
		return nil, err
	}
	whole := r.Clone(r.Context())
	whole.Body = io.NopCloser(bytes.NewReader(body)) // a kind that net/http knows to be at hand
	return c.HTTPClient.Do(whole)
}

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
