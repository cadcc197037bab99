package federation

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go/middleware"
)

// sessionPrefix begins the names of the sessions of a proof.
const sessionPrefix = "proof-"

// maxExchanges is how often a proof asks STS: for two tenants, and with a control.
const maxExchanges = 3

// exchanging is a call of STS that is about to be made.
func (v *prover) exchanging(token, name string) Exchange {
	c, _ := readClaims(token, v.Config.TagKey) // of a token that cannot be read STS reads nothing either
	return Exchange{At: v.Now().UTC(), SessionName: sessionName(name), Subject: oneLine(c.Subject), Tag: oneLine(c.Tag)}
}

// exchanged notes what came of it.
func (v *prover) exchanged(e Exchange, r reply) {
	e.Answer = r.answer
	v.report.Exchanges = append(v.report.Exchanges, e)
}

// requestIDForm is AWS's id of a request, a UUID. What else a server sends is none.
var requestIDForm = regexp.MustCompile(`^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func requestID(id string) string {
	if !requestIDForm.MatchString(id) {
		return ""
	}
	return id
}

func answeredID(m middleware.Metadata) string {
	id, _ := awsmiddleware.GetRequestIDMetadata(m)
	return requestID(id)
}

func refusedID(err error) string {
	var answered *awshttp.ResponseError
	if !errors.As(err, &answered) {
		return ""
	}
	return requestID(answered.ServiceRequestID())
}

// A ProofRecord is what the JSON report of a proof says of how it got its sessions.
type ProofRecord struct {
	StartedAt  time.Time  `json:"started_at"`
	FinishedAt time.Time  `json:"finished_at"`
	Config     Config     `json:"config"`
	Exchanges  []Exchange `json:"exchanges"`
}

// ReadProofRecord reads it from a report that Report.WriteJSON wrote. What no proof
// makes is refused: a session of another name, or more of them, or at another time than
// the proof's. A report of a release that did not keep its exchanges is refused too.
func ReadProofRecord(report []byte) (ProofRecord, error) {
	var r ProofRecord
	if err := json.Unmarshal(report, &r); err != nil {
		return ProofRecord{}, fmt.Errorf("reading the report of a proof: %w", err)
	}
	if err := r.check(); err != nil {
		return ProofRecord{}, fmt.Errorf("reading the report of a proof: %w", err)
	}
	return r, nil
}

func (r ProofRecord) check() error {
	switch {
	case r.Exchanges == nil:
		return errors.New("want its exchanges at STS, got none: it is no report of a proof, or of a release that did not keep them")
	case len(r.Exchanges) > maxExchanges:
		return fmt.Errorf("want at most %d exchanges, got %d", maxExchanges, len(r.Exchanges))
	case r.StartedAt.IsZero() || r.FinishedAt.Before(r.StartedAt):
		return fmt.Errorf("want when it started and finished, got %s and %s", r.StartedAt.Format(time.RFC3339), r.FinishedAt.Format(time.RFC3339))
	}
	if err := r.Config.Validate(); err != nil {
		return err
	}
	for n, e := range r.Exchanges {
		if err := r.checkExchange(e); err != nil {
			return fmt.Errorf("exchange %d: %w", n+1, err)
		}
	}
	return nil
}

func (r ProofRecord) checkExchange(e Exchange) error {
	switch {
	case !strings.HasPrefix(e.SessionName, sessionPrefix):
		return fmt.Errorf("want a session name that begins with %s, got %.70q", sessionPrefix, e.SessionName)
	case e.At.Before(r.StartedAt) || e.At.After(r.FinishedAt):
		return fmt.Errorf("want a time of the proof, got %s", e.At.Format(time.RFC3339))
	case e.Answer != Allowed && e.Answer != Denied && e.Answer != Unclear:
		return fmt.Errorf("want the answer allowed, denied or error, got %.20q", e.Answer)
	case e.RequestID != "" && !requestIDForm.MatchString(e.RequestID):
		return fmt.Errorf("want AWS's id of the request, a UUID, got %.70q", e.RequestID)
	}
	return nil
}
