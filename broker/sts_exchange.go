package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/aws/smithy-go"

	"agentkeys/token"
)

// maxSTSAnswer is far more than an answer of STS has, whose session token takes
// 4 kB at the most.
const maxSTSAnswer = 64 << 10

// STSError is what came of a call that gave no credentials. No text in it is more
// than a line of printable characters, and none holds the token that was sent.
type STSError struct {
	Code, Message string // as STS said them; "" where it said nothing, or not as STS does
	Fault         string // what went wrong where STS said nothing
	Status        int    // of HTTP; 0 where no answer came
	RequestID     string // AWS's; "" where it gave none
	// Unknown says that STS may have issued a credential all the same: no answer
	// came, or one that is not whole or not STS's, or it says that STS itself failed.
	Unknown  bool
	Attempts int // requests, of which all but the last certainly gave nothing
}

// Passes says that the same call may be answered in a while: STS was not reached, was
// too busy, failed itself, or could not reach the issuer. These are the answers that
// AWS's retry rules have a client ask again after (AWS SDKs and Tools Reference Guide,
// "Retry behavior": transient and throttling errors, status 500, 502, 503 and 504).
func (e *STSError) Passes() bool { return e.Code == "" || e.Unknown || e.refusedFirst() }

// refusedFirst says that STS refused before it issued anything, for a reason that passes.
func (e *STSError) refusedFirst() bool {
	return e.Status == http.StatusTooManyRequests || slices.Contains(retryable, e.Code)
}

// failedWithin says that STS began, and then failed or ran out of time. It does not say
// how far it had come, so a credential may be out.
func (e *STSError) failedWithin() bool {
	return !e.refusedFirst() && (e.Status >= http.StatusInternalServerError || slices.Contains(timedOut, e.Code))
}

// unclear says to a client of a call whose outcome is Unknown what came of it.
func (e *STSError) unclear() string {
	if e.Code == "" {
		return "AWS STS gave no answer that can be read"
	}
	return "AWS STS failed with " + e.Code + "; what it may have issued all the same was released to nobody"
}

// Error says what STS said, or what went wrong.
func (e *STSError) Error() string {
	var b strings.Builder
	b.WriteString("sts AssumeRoleWithWebIdentity: ")
	switch {
	case e.Code == "":
		b.WriteString(e.Fault)
	case e.Message == "":
		b.WriteString(e.Code)
	default:
		b.WriteString(e.Code + ": " + e.Message)
	}
	if e.Unknown {
		b.WriteString("; STS may have issued a credential all the same")
	}
	if e.RequestID != "" {
		b.WriteString(" (request " + e.RequestID + ")")
	}
	return b.String()
}

// exchange is one request to STS and what came of it. It is the SDK's HTTP client
// for that request, so that it sees what the SDK does not tell: whether anything
// was sent.
type exchange struct {
	client            *http.Client
	begun             bool
	asked, connected  atomic.Bool // a connection was asked for, and had
	err               error       // of the request, or of reading the answer
	status            int         // 0 until an answer begins
	requestID, hinted string      // from the answer's header

	failed *STSError     // nil where it gave credentials
	again  bool          // STS has certainly issued nothing, and may do so if asked again
	hint   time.Duration // how long AWS wants to be left alone; 0 where it does not say
}

// Do makes the request. It sends on nothing but the form: the SDK adds headers from
// the environment. The answer is read to its end here, as one that breaks off after
// the credentials would satisfy the SDK.
func (x *exchange) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err := errors.Join(err, r.Body.Close()); err != nil {
		return nil, err
	}
	ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { x.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { x.connected.Store(true) },
	})
	x.begun = true
	var answer *http.Response
	answer, x.err = x.send(ctx, r.URL, body)
	return answer, x.err
}

func (x *exchange) send(ctx context.Context, to *url.URL, form []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(form))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("User-Agent", "agentkeys")
	answer, err := x.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	x.status, x.requestID, x.hinted = answer.StatusCode, answer.Header.Get("X-Amzn-Requestid"), answer.Header.Get("X-Amz-Retry-After")
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxSTSAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxSTSAnswer:
		return nil, fmt.Errorf("want at most %d bytes", maxSTSAnswer)
	case x.status < 300 && !bytes.HasSuffix(bytes.TrimSpace(body), []byte("</AssumeRoleWithWebIdentityResponse>")):
		return nil, errors.New("want an AssumeRoleWithWebIdentityResponse to its end") // without a length, half of one looks whole
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}

// fail describes an error of the SDK and decides whether to ask again. It takes
// nothing from the error's own text that is not cleaned: the SDK quotes answers.
func (x *exchange) fail(err error, secret token.Secret) {
	var refusal smithy.APIError
	switch said := errors.As(err, &refusal); {
	case said && isErrorCode(refusal.ErrorCode(), secret):
		x.failed = &STSError{Code: refusal.ErrorCode(), Message: oneLine(refusal.ErrorMessage(), secret), Status: x.status}
		if x.failed.Message == notSaid {
			x.failed.Message = ""
		}
		x.failed.Unknown, x.again = x.failed.failedWithin(), x.failed.refusedFirst()
		x.hint = hinted(x.hinted)
	case !x.begun:
		x.failed = &STSError{Fault: "the request was not sent: " + oneLine(cause(err).Error(), secret)}
	case x.err != nil && x.status == 0 && x.asked.Load() && !x.connected.Load():
		x.failed = &STSError{Fault: "no connection: " + oneLine(cause(x.err).Error(), secret)}
		var op *net.OpError
		x.again = errors.As(x.err, &op) && op.Op == "dial"
	case x.err != nil && x.status == 0:
		x.failed = &STSError{Fault: "no answer: " + oneLine(cause(x.err).Error(), secret), Unknown: true}
	case x.err != nil:
		x.failed = &STSError{Fault: fmt.Sprintf("half an answer of status %d: %s", x.status, oneLine(cause(x.err).Error(), secret)), Unknown: true}
	default:
		x.failed = &STSError{Fault: fmt.Sprintf("an answer of status %d that is none of STS", x.status), Unknown: true}
	}
	x.label()
}

// label adds what the answer's header says.
func (x *exchange) label() {
	x.failed.Status, x.failed.RequestID = x.status, awsRequestID(x.requestID)
}

// notSaid is the SDK's word for a code, or a message, that is not there.
const notSaid = "UnknownError"

var errorCodeForm = regexp.MustCompile(`^[A-Z][A-Za-z0-9.]{2,63}$`)

// isErrorCode reports whether a code is of the query protocol's form. What has
// another was not written by STS.
func isErrorCode(code string, secret token.Secret) bool {
	return code != notSaid && errorCodeForm.MatchString(code) && secret.Redact(code) == code
}

// retryable are the refusals that come before anything is issued, and that pass:
// throttling, an STS that is too busy, and an issuer that STS could not reach (API
// reference of AssumeRoleWithWebIdentity, Errors: "Retry the request a limited
// number of times").
var retryable = []string{
	"ServiceUnavailable", "IDPCommunicationError",
	// The throttling errors of all services, as the SDK counts them.
	"Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException", "RequestLimitExceeded",
	"TooManyRequestsException", "BandwidthLimitExceeded", "LimitExceededException", "SlowDown", "EC2ThrottledException",
	"ProvisionedThroughputExceededException", "PriorRequestNotComplete", "TransactionInProgressException",
}

// timedOut are the errors by which a service says that it ran out of time.
var timedOut = []string{"RequestTimeout", "RequestTimeoutException"}

// cause is the error without net/http's repetition of method and URL.
func cause(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// hinted reads X-Amz-Retry-After, in milliseconds, which the SDK honours as well.
func hinted(header string) time.Duration {
	ms, err := strconv.ParseUint(header, 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

var requestIDForm = regexp.MustCompile(`^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// awsRequestID is AWS's id of the request, a UUID, or "" where something else stands
// in its place.
func awsRequestID(header string) string {
	if !requestIDForm.MatchString(header) {
		return ""
	}
	return header
}

// jwtForm is the beginning of any JWT, with what follows it.
var jwtForm = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*`)

// oneLine makes text from outside fit for a record: without the secret or any other
// token, printable, and at most 300 characters of it.
func oneLine(text string, secret token.Secret) string {
	const most = 300
	text = jwtForm.ReplaceAllString(secret.Redact(text), "[token]")
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	runes := []rune(strings.Join(strings.Fields(text), " "))
	if len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return string(runes)
}
