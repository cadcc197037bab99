package federation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"unicode"

	"github.com/aws/smithy-go"
)

// Answer is what a request came to.
type Answer string

// The answers.
const (
	Allowed  Answer = "allowed"   // done as asked
	Denied   Answer = "denied"    // refused by AWS's access control, and by nothing else
	Held     Answer = "held"      // answered, but without touching anything of the other tenant's
	Unclear  Answer = "error"     // failed or was answered in a way that says nothing about permission
	NotTried Answer = "not_tried" // never sent
)

// Refusal says which policy refused, as far as AWS's message tells.
type Refusal struct {
	Layer    string `json:"layer"`    // "trust policy", "resource-based policy", …, or "not said"
	Explicit bool   `json:"explicit"` // by a Deny, rather than for want of an Allow
}

// layerNotSaid is the Layer of a refusal whose message names none.
const layerNotSaid = "not said"

func (r *Refusal) String() string {
	switch {
	case r == nil:
		return ""
	case r.Layer == layerNotSaid:
		return "the policy is not said"
	case r.Explicit:
		return "explicit deny, " + r.Layer
	case r.Layer == "trust policy":
		return "the trust policy does not allow it"
	}
	return "no " + r.Layer + " allows it"
}

// reply is the answer to one request with what the server said.
type reply struct {
	answer  Answer
	code    string // AWS's error code, or a word of ours where there is none
	status  int    // HTTP status; 0 where no answer came
	message string
	refusal *Refusal
	version string // of what was written, where S3 says
	advice  string // what to do about an Unclear answer
	silent  bool   // no HTTP answer came at all
}

// read classifies the outcome of a call. Only AccessDenied with 403 is a denial.
// A 403 for a signature, a clock or a key, a 404, a redirect, a throttle and a
// time-out all keep the caller out as well, and prove nothing.
//
// Within one account S3 says "no identity-based policy allows" whenever nothing
// allows, whichever policy was meant to.
func read(err error) reply {
	if err == nil {
		return reply{answer: Allowed, status: http.StatusOK}
	}
	r := reply{answer: Unclear, status: status(err)}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return unanswered(r, err)
	}
	r.code, r.message = api.ErrorCode(), oneLine(api.ErrorMessage())
	if r.message == noMessage {
		r.message = ""
	}
	if r.code != "AccessDenied" || r.status != http.StatusForbidden {
		r.advice = advice(r.code, r.status)
		return r
	}
	return refusal(r)
}

// noMessage is the SDK's word for an error that has no message.
const noMessage = "UnknownError"

// refusal reads an AccessDenied. A refusal that some other guard than the
// account's policies pronounced is not a denial in our sense: it would not stop
// the same request from elsewhere.
func refusal(r reply) reply {
	layer, explicit := refusedBy(r.message)
	switch {
	case strings.Contains(strings.ToLower(r.message), "expired"):
		r.advice = "The request or the session had expired; run the proof again."
	case strings.Contains(r.message, "perform: kms:"):
		r.advice = "KMS refused, after S3 had let the request through; repeat with objects that the tenants' sessions may decrypt."
	case layer == "VPC endpoint policy" || layer == "session policy":
		r.advice = "A " + layer + " refused, which binds only this caller; run the proof without it."
	default:
		r.answer = Denied
		r.refusal = &Refusal{Layer: layer, Explicit: explicit}
	}
	return r
}

// readHead is read for HEAD, whose answers have no body: the SDK makes the code up
// from the status. It cannot tell a denial from a bad signature, so it counts only
// beside a GET of the same object by the same session that was denied.
func readHead(err error) reply {
	r := read(err)
	if r.answer == Unclear && r.status == http.StatusForbidden && r.code == "Forbidden" {
		r.answer, r.refusal = Denied, &Refusal{Layer: layerNotSaid}
		r.message, r.advice = "", ""
	}
	return r
}

// unanswered describes an error that is not AWS's.
func unanswered(r reply, err error) reply {
	var netErr net.Error
	switch {
	case r.status != 0:
		r.code, r.advice = "unreadable answer", "Something between here and AWS answered in its place; check the endpoint and the proxy."
	case errors.Is(err, context.Canceled):
		r.code, r.advice = "interrupted", "Run the proof again."
		r.silent = true
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		r.code, r.advice = "timeout", "Check the endpoint and the network, then run the proof again."
		r.silent = true
	default:
		r.code, r.advice = "no answer", "Check the endpoint and the network, then run the proof again."
		r.silent = true
	}
	r.message = oneLine(cause(err))
	return r
}

// cause is the innermost error's text: the outer ones repeat the operation.
func cause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// jwt is what a token looks like, or the part of one that is left where somebody
// cut it short.
var jwt = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*`)

// oneLine makes text from outside fit to print: printable, and not too long.
func oneLine(s string) string {
	const limit = 400
	s = printable(s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}

// printable is text from outside without line breaks, without anything that a
// terminal would obey, and without a token that a server repeats.
func printable(s string) string {
	s = jwt.ReplaceAllString(s, "[token]")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

var (
	explicitDeny = regexp.MustCompile(`with an explicit deny in an? ([A-Za-z -]+?)(?: policy)?(?:[:.]|$)`)
	implicitDeny = regexp.MustCompile(`because no ([A-Za-z -]+?)(?: policy)? allows`)
	stsDeny      = regexp.MustCompile(`^Not authorized to perform:? sts:`)
)

// refusedBy finds the layer in a message. S3 writes "… because no identity-based
// policy allows the s3:GetObject action" or "… with an explicit deny in a
// resource-based policy"; STS names only the action that the trust policy does
// not allow.
func refusedBy(message string) (layer string, explicit bool) {
	name := func(layer string) string {
		if layer == "permissions boundary" {
			return layer
		}
		return layer + " policy"
	}
	if m := explicitDeny.FindStringSubmatch(message); m != nil {
		return name(m[1]), true
	}
	if m := implicitDeny.FindStringSubmatch(message); m != nil {
		return name(m[1]), false
	}
	if stsDeny.MatchString(message) {
		return "trust policy", false
	}
	return layerNotSaid, false
}

// advice says what to do about an error that is not a denial.
func advice(code string, status int) string {
	if text, ok := advices[code]; ok {
		return text
	}
	switch {
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		return "AWS was busy; wait and run the proof again."
	case status >= 500:
		return "The server failed; run the proof again."
	case status >= 300 && status < 400:
		return "S3 points elsewhere: the bucket is in another region. Set region to the bucket's own."
	}
	return fmt.Sprintf("Find out why the server answered %s, then run the proof again.", code)
}

var advices = map[string]string{
	"AuthorizationHeaderMalformed": "The request was signed for another region. Set region to the bucket's own.",
	"PermanentRedirect":            "The bucket is in another region. Set region to the bucket's own.",
	"IllegalLocationConstraint":    "The bucket is in another region. Set region to the bucket's own.",
	"SignatureDoesNotMatch":        "Something on the way changes the request; check the endpoint and the proxy.",
	"InvalidAccessKeyId":           "S3 does not know the session: do STS and S3 belong to the same AWS?",
	"InvalidToken":                 "S3 does not know the session: do STS and S3 belong to the same AWS?",
	"ExpiredToken":                 "The session had expired; check the clock and run the proof again.",
	"ExpiredTokenException":        "The web identity token had expired; mint a new one, or check the issuer's clock, and run the proof again.",
	"RequestTimeTooSkewed":         "Set this machine's clock.",
	"NoSuchBucket":                 "Create the bucket, or correct its name.",
	"NoSuchKey":                    "The object was not there, so nothing was refused; run the proof again and let nobody clean up meanwhile.",
	"InvalidIdentityToken":         "STS could not validate the token: compare issuer and audience with the OIDC provider, and see that AWS can fetch the issuer's keys.",
	"IDPCommunicationError":        "STS could not reach the issuer; make its discovery document and keys public and run the proof again.",
	"PackedPolicyTooLarge":         "The token's tags and claims are too large; shorten them.",
	"RegionDisabledException":      "Activate STS in this region, or use another.",
	"ValidationError":              "STS did not take the parameters; check the role's ARN.",
	"SlowDown":                     "AWS was busy; wait and run the proof again.",
	"Throttling":                   "AWS was busy; wait and run the proof again.",
}
