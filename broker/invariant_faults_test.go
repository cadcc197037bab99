package broker_test

import (
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
)

func playRecordBefore(t *testing.T, s *stage) {
	asked := len(s.aws.Asked())
	c := s.signed(t, rand.Text())
	s.faults.setRest(refused, refused, works) // that there was nothing to undo is no sign that it works
	s.want(t, c, 503, api.CodeAuditUnavailable)
	s.wantReady(t, api.StatusUnready)
	s.faults.set()
	if n := s.intents(t); n != 0 {
		t.Errorf("%d intents of a transaction that failed", n)
	}
	s.faults.set(lost) // the record is there, and the broker does not know it
	s.want(t, c, 503, api.CodeAuditUnavailable)
	if n := s.intents(t); n != 1 {
		t.Errorf("%d intents of a transaction that was durable, want 1", n)
	}
	s.want(t, c, 503, api.CodeMintInterrupted)

	c = s.signed(t, rand.Text())
	s.faults.setRest(refused, lost) // and it cannot be settled either
	s.want(t, c, 503, api.CodeAuditUnavailable)
	s.faults.set()
	s.want(t, c, 409, api.CodeIdempotencyInProgress)
	if n := len(s.aws.Asked()); n != asked {
		t.Errorf("STS was asked %d times without a record that is known to be durable", n-asked)
	}
	s.clock.Move(overdue)
	r, err := s.send(t.Context(), c) // the retry comes before anybody settled
	if err != nil || r.code() != api.CodeMintInterrupted {
		t.Errorf("after the deadline the retry got %+v, %v", r.problem, err)
	}
	checkInvariant(t, s.world, "the retry settled")
	s.want(t, c, 503, api.CodeMintInterrupted)
	s.want(t, s.signed(t, ""), 200, "ok")

	s.faults.set(refused)
	s.want(t, s.k.NewCall(s.daemon, "other").Sign(t), 503, api.CodeAuditUnavailable) // a refusal needs its record as well
}

// intents counts the records of intent of the daemon.
func (s *stage) intents(t *testing.T) int {
	t.Helper()
	return s.count(t, "SELECT count(*) FROM audit_records WHERE outcome = 'pending' AND grant_id = $1", s.grant.GrantID)
}

func playRecordAfter(t *testing.T, s *stage) {
	for name, tt := range map[string]struct {
		fault fault
		retry func(*testing.T, *agentkeystest.Call)
	}{
		"fails": {refused, func(t *testing.T, c *agentkeystest.Call) {
			s.want(t, c, 409, api.CodeIdempotencyInProgress)
			s.pass(t, overdue)
			s.want(t, c, 503, api.CodeMintInterrupted)
		}},
		"is stored and reported to have failed": {lost, func(t *testing.T, c *agentkeystest.Call) {
			if got := s.want(t, c, 200, "ok"); got.header.Get("X-Idempotency") != "hit" {
				t.Errorf("X-Idempotency %q, want hit", got.header.Get("X-Idempotency"))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			given := len(s.aws.Given())
			c := s.signed(t, rand.Text())
			s.faults.setRest(refused, works, tt.fault)
			s.want(t, c, 503, api.CodeAuditUnavailable)
			if ready := s.ready(t); ready.Status != api.StatusUnready {
				t.Errorf("readiness %+v, want unready", ready)
			}
			s.faults.set()
			tt.retry(t, c)
			if n := len(s.aws.Given()); n != given+1 {
				t.Errorf("STS gave %d credentials, want 1", n-given)
			}
			c = s.signed(t, "")
			s.faults.set(works, tt.fault)
			s.want(t, c, 503, api.CodeAuditUnavailable)
			s.want(t, c, 401, api.CodeCallReplayed)
			s.pass(t, overdue)
			s.want(t, c, 401, api.CodeCallReplayed)
			s.want(t, s.signed(t, ""), 200, "ok")
			if ready := s.ready(t); ready.Status != api.StatusReady {
				t.Errorf("readiness %+v, want ready", ready)
			}
		})
	}
}

func (w *world) ready(t *testing.T) api.Readiness {
	t.Helper()
	ready, err := w.k.Client.Ready(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ready
}

// anchorFaults are what may happen at one of two anchors.
var anchorFaults = map[string]fault{"is down": refused, "is slow": slow, "hangs": hung, "loses its answer": lost}

func playAnchorBefore(t *testing.T, s *stage) {
	for name, f := range anchorFaults {
		t.Run(name, func(t *testing.T) {
			asked, west := len(s.aws.Asked()), s.places[1]
			c := s.signed(t, rand.Text())
			west.set(f, "pending")
			s.want(t, c, 503, api.CodeAuditUnavailable)
			s.mend(t)
			if n := len(s.aws.Asked()); n != asked {
				t.Errorf("STS was asked %d times", n-asked)
			}
			s.want(t, c, 503, api.CodeMintInterrupted)
			s.want(t, s.signed(t, ""), 200, "ok")
		})
	}
}

func playAnchorAfter(t *testing.T, s *stage) {
	for name, f := range anchorFaults {
		t.Run(name, func(t *testing.T) {
			given, east := len(s.aws.Given()), s.places[0]
			c := s.signed(t, rand.Text())
			east.set(f, "confirmed")
			s.want(t, c, 503, api.CodeAuditUnavailable)
			s.mend(t)
			if n := len(s.aws.Given()); n != given+1 {
				t.Errorf("STS gave %d credentials, want 1", n-given)
			}
			s.want(t, c, 503, api.CodeMintInterrupted)
			s.want(t, s.signed(t, ""), 200, "ok")
		})
	}
	t.Run("is down for all", func(t *testing.T) {
		c := s.signed(t, rand.Text())
		s.want(t, c, 200, "ok")
		s.places[0].set(refused)
		s.want(t, c, 503, api.CodeAuditUnavailable) // a replay needs its record as well
		s.want(t, s.signed(t, ""), 503, api.CodeAuditUnavailable)
		if ready := s.ready(t); ready.Status != api.StatusUnready {
			t.Errorf("readiness %+v, want unready", ready)
		}
		s.mend(t)
		if ready := s.ready(t); ready.Status != api.StatusReady {
			t.Errorf("readiness %+v, want ready", ready)
		}
		s.want(t, c, 200, "ok")
	})
}

// stsFault answers in the place of STS.
type stsFault = func(http.ResponseWriter, *http.Request, http.Handler)

func refuseSTS(status int, code string) stsFault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>`+code+
			`</Code><Message>no</Message></Error><RequestId>00000000-0000-0000-0000-000000000000</RequestId></ErrorResponse>`)
	}
}

// hangUp closes the connection without an answer.
func hangUp(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

// giveAndHangUp has STS give credentials, of whose answer only a part arrives.
func giveAndHangUp(part int) stsFault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		if part > 0 {
			w.Header().Set("Content-Type", "text/xml")
			_, _ = w.Write(answer.Body.Bytes()[:answer.Body.Len()*part/100])
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	}
}

// giveAndSay has STS give credentials, and answer something else.
func giveAndSay(said stsFault) stsFault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(httptest.NewRecorder(), r)
		said(w, r, next)
	}
}

func playSTS(t *testing.T, s *stage) {
	throttled := false
	for name, tt := range map[string]struct {
		fault  stsFault
		status int
		code   api.Code
		given  int
	}{
		"refuses":                {refuseSTS(403, "AccessDenied"), 502, api.CodeSTSRefused, 0},
		"answers nothing":        {hangUp, 502, api.CodeSTSUnavailable, 0},
		"gives, answers nothing": {giveAndHangUp(0), 502, api.CodeSTSUnavailable, 1},
		"gives, answers half":    {giveAndHangUp(50), 502, api.CodeSTSUnavailable, 1},
		"fails":                  {refuseSTS(500, "InternalFailure"), 502, api.CodeSTSUnavailable, 0},
		"gives, says it failed":  {giveAndSay(refuseSTS(500, "InternalFailure")), 502, api.CodeSTSUnavailable, 1},
		"gives, says it is down": {giveAndSay(refuseSTS(503, "TemporaryFailure")), 502, api.CodeSTSUnavailable, 1},
		"gives, says time is up": {giveAndSay(refuseSTS(400, "RequestTimeout")), 502, api.CodeSTSUnavailable, 1},
		"is too busy once": {func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if !throttled {
				throttled = true
				refuseSTS(400, "Throttling")(w, r, next)
				return
			}
			next.ServeHTTP(w, r)
		}, 200, "ok", 1},
	} {
		t.Run(name, func(t *testing.T) {
			given := len(s.aws.Given())
			s.faultySTS(tt.fault)
			c := s.signed(t, rand.Text())
			if got := s.want(t, c, tt.status, tt.code).header.Get("X-Idempotency"); got != "miss" {
				t.Errorf("the first answer: X-Idempotency %q, want miss", got)
			}
			s.faultySTS(nil)
			if n := len(s.aws.Given()); n != given+tt.given {
				t.Errorf("STS gave %d credentials, want %d", n-given, tt.given)
			}
			if got := s.want(t, c, tt.status, tt.code).header.Get("X-Idempotency"); got != "hit" { // and the retry does not ask again
				t.Errorf("the retry: X-Idempotency %q, want hit", got)
			}
			s.want(t, s.signed(t, ""), 200, "ok")
		})
	}
}

// What STS gives after the deadline of its intent is released to nobody, whether or
// not the intent was settled by then.
func playLateSTS(t *testing.T, s *stage) {
	for name, then := range map[string]func(){"settled": func() { s.settle(t) }, "not settled yet": func() {}} {
		t.Run(name, func(t *testing.T) {
			c := s.signed(t, rand.Text())
			h := s.hold(t, c)
			s.clock.Move(overdue)
			then()
			h.end(t, 503, api.CodeMintInterrupted)
			checkInvariant(t, s.world, "STS was late")
			s.want(t, c, 503, api.CodeMintInterrupted)
		})
	}
	// It was confirmed before, so nobody settles it, and the anchors take their time.
	t.Run("the deadline passes while the outcome is anchored", func(t *testing.T) {
		c := s.signed(t, rand.Text())
		s.places[0].meanwhile(func(r audit.Record) {
			if r.Outcome == audit.Confirmed {
				s.pass(t, overdue)
			}
		})
		s.want(t, c, 200, "ok")
		s.places[0].meanwhile(nil)
		s.want(t, c, 200, "ok")
	})
	t.Run("refused late", func(t *testing.T) {
		c := s.signed(t, rand.Text())
		h := s.hold(t, c)
		s.pass(t, overdue)
		s.faults.set(refused)
		h.end(t, 503, api.CodeMintInterrupted)
		s.faults.set()
		s.want(t, c, 503, api.CodeMintInterrupted)
	})
}

func playClockBack(t *testing.T, s *stage) {
	c := s.signed(t, rand.Text())
	s.want(t, c, 200, "ok")
	s.clock.Move(-10 * time.Minute)
	s.want(t, c, 503, api.CodeClockBackwards)
	s.want(t, s.signed(t, ""), 503, api.CodeClockBackwards)
	s.clock.Move(10 * time.Minute)
	s.want(t, c, 200, "ok")
}

// A call stays fresh for as long as it ever can, its request_id is forgotten, and the
// clock steps back as far as it may: it is not made twice.
func TestInvariantAtTheLargestSkew(t *testing.T) {
	w := newWorld(t, func(c *broker.Config) { c.CallSkew = broker.MaxCallSkew })
	s := w.stage(t)
	s.pass(t, time.Minute) // or the session would be of the future
	c := s.call("")
	c.IssuedAt = api.Timestamp{Time: s.now().Add(broker.MaxCallSkew)}
	s.want(t, c.Sign(t), 200, "ok")
	for passed := time.Duration(0); passed < 6*time.Minute; passed += 10 * time.Second {
		s.pass(t, 10*time.Second)
		s.clock.Move(-broker.ClockLeeway)
		if r, err := s.send(t.Context(), c); err != nil || r.status != http.StatusUnauthorized {
			t.Fatalf("after %v the call that was made before got %d, %v; want 401", passed, r.status, err)
		}
		s.clock.Move(broker.ClockLeeway)
	}
	checkInvariant(t, w, "forgotten")
	if n := s.count(t, "SELECT count(*) FROM mints"); n != 0 {
		t.Errorf("%d calls are remembered", n)
	}
}
