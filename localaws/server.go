package localaws

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"time"
)

// Config says where the local AWS keeps its state and what it calls itself.
type Config struct {
	Dir        string           // state folder; must exist
	Account    string           // twelve digits
	Region     string           // the one region there is, such as "us-east-1"
	Now        func() time.Time // nil: time.Now
	Log        *slog.Logger     // nil: no log
	HTTPClient *http.Client     // fetches discovery documents and key sets; nil: a client of its own
	CloudTrail string           // folder for log files as CloudTrail delivers them to a bucket; "": none
}

// Server is the local AWS: one account, one region, one endpoint. It may be
// used by several goroutines at a time.
type Server struct {
	config  Config
	state   *stateStore
	sealer  sealer
	issuers *issuers
	s3      *s3
	trail   *trail // nil without Config.CloudTrail
}

// check fills the defaults of c in and refuses what cannot be served.
func (c *Config) check() error {
	if !isAccountID(c.Account) {
		return fmt.Errorf("local AWS account: want twelve digits, got %q", c.Account)
	}
	if c.Region == "" {
		return errors.New("local AWS region: want a name such as us-east-1, got none")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Create makes the state of a new account in c.Dir: a user "admin" with
// AdministratorAccess and one access key, and nothing else. It refuses a
// folder that holds state already.
func Create(c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	st, now := newState(c.Account), c.Now().UTC()
	admin := &user{entity{Name: "admin", Path: "/", ID: newID("AIDA"), Created: now, Attached: []string{awsPolicyARN("AdministratorAccess")}}}
	st.Users["admin"] = admin
	st.AdminKey = newAccessKeyID("AKIA")
	st.Keys[st.AdminKey] = &accessKey{UserID: admin.ID, Secret: newSecret(), Active: true, Created: now}
	return createState(c.Dir, st)
}

// Open starts from the state in c.Dir, which no other process may use at the
// same time. It refuses a folder without state, of another account, of a
// newer format, or damaged. Close must be called.
func Open(c Config) (*Server, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	st, err := openState(c.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{config: c, state: st, issuers: newIssuers(c.HTTPClient)}
	if c.CloudTrail != "" {
		s.trail = &trail{dir: c.CloudTrail, account: c.Account, region: c.Region, now: c.Now}
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, st.close())
	}
	return s, nil
}

func (s *Server) start() (err error) {
	if got := s.state.snapshot().Account; got != s.config.Account {
		return fmt.Errorf("opening state folder %q: want account %s, got %s", s.config.Dir, s.config.Account, got)
	}
	if s.sealer, err = loadSealer(s.config.Dir); err != nil {
		return err
	}
	s.s3, err = newS3(s, filepath.Join(s.config.Dir, "s3"))
	return err
}

// AdminCredentials returns the access key that Create made for user admin, or
// two empty strings where it has been deleted since.
func (s *Server) AdminCredentials() (accessKeyID, secret string) {
	st := s.state.snapshot()
	if key := st.Keys[st.AdminKey]; key != nil {
		return st.AdminKey, key.Secret
	}
	return "", ""
}

// Close releases the state folder and delivers what is left of the trail. Requests
// must have ended.
func (s *Server) Close() error {
	s.issuers.close()
	return errors.Join(s.DeliverTrail(), s.s3.close(), s.state.close())
}

func (s *Server) now() time.Time { return s.config.Now() }

// ServeHTTP answers one request: STS and IAM where it is in their query
// protocol and its host names no bucket, S3 in all other cases. Timeouts are the
// http.Server's.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.s3.hostBucket(r) != "" || !isQueryRequest(r) {
		s.s3.ServeHTTP(w, r)
		return
	}
	requestID := newRequestID()
	w.Header().Set("X-Amzn-Requestid", requestID)
	c := &call{server: s, request: r, now: s.now()}
	result, e := c.serve()
	if s.trail != nil {
		s.trailed(c.trailEvent(requestID, result, e))
	}
	if e == nil {
		if err := writeReply(w, c.namespace, c.action, requestID, result); err == nil {
			return
		} else {
			e = s.fault("writing the reply of "+c.action, err)
		}
	}
	s.config.Log.Info("localaws: refused", "action", c.action, "code", e.Code, "status", e.Status, "request_id", requestID)
	writeQueryError(w, c.namespace, requestID, e)
}

// newRequestID makes an id in the form of a UUID, as AWS has it.
func newRequestID() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails, see crypto/rand
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// call is one STS or IAM request on its way.
type call struct {
	server    *Server
	request   *http.Request
	now       time.Time // one reading for all of the call
	namespace string    // of the reply
	action    string    // "" until it is known to be one
	params    params
	sig       signature
	state     *snapshot // what the call sees; for a writing call the copy it changes
	caller    *caller
	asked     *assumption  // what is asked of a role, once it was read
	proven    *webIdentity // the web identity, once its token was verified
}

// serve finds the action, verifies the signature and runs it.
func (c *call) serve() (any, *apiError) {
	c.namespace = stsNamespace
	p, e := readParams(c.request)
	if e != nil {
		return nil, e
	}
	c.params = p
	action, version := p["Action"], p["Version"]
	if action == "" {
		return nil, refuse(http.StatusBadRequest, "MissingAction", "The request must contain the parameter Action.")
	}
	if version == "" {
		return nil, refuse(http.StatusBadRequest, "MissingParameter", "The request must contain the parameter Version.")
	}
	if version == iamVersion {
		c.namespace = iamNamespace
	}
	op, service, ok := findOperation(action, version)
	if !ok {
		return nil, noSuchOperation(action, version)
	}
	c.action = action
	if !op.unsigned {
		if e := c.authenticate(service); e != nil {
			return nil, e
		}
	}
	return c.run(op, service)
}

func noSuchOperation(action, version string) *apiError {
	return refuse(http.StatusBadRequest, "InvalidAction", "Could not find operation %s for version %s", clip(action), clip(version))
}

func findOperation(action, version string) (op operation, service string, ok bool) {
	switch version {
	case stsVersion:
		op, ok = stsOperations[action]
		return op, "sts", ok
	case iamVersion:
		op, ok = iamOperations[action]
		return op, "iam", ok
	}
	return operation{}, "", false
}

// operation is one action of STS or IAM.
type operation struct {
	unsigned bool // anybody may call: what is sent must prove itself
	free     bool // no policy is asked here: the action decides by itself
	writes   bool
	resource func(*call) string // ARN that the action is authorised on
	run      func(*call) (any, *apiError)
}

func (c *call) authenticate(service string) *apiError {
	sig, e := verifySigV4(c.request, service, c.now, c.server.lookupKey)
	if e != nil {
		return e
	}
	if sig.anonymous {
		return refuse(http.StatusForbidden, "MissingAuthenticationToken", "Request is missing Authentication Token")
	}
	if region := c.server.config.Region; sig.region != region {
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "Credential should be scoped to a valid region. Want %s, got %s.", region, clip(sig.region))
	}
	c.sig = sig
	return nil
}

// run decides and acts on one state: a writing call does both on the copy that
// takes effect, so no change of policy comes between the two.
func (c *call) run(op operation, service string) (result any, refused *apiError) {
	act := func(st *snapshot) *apiError {
		c.state = st
		var e *apiError
		if !op.unsigned {
			if c.caller, e = c.server.callerIn(st, c.sig, c.request); e != nil {
				return e
			}
		}
		if !op.unsigned && !op.free {
			if e := c.authorize(service+":"+c.action, op.resource(c)); e != nil {
				return e
			}
		}
		result, e = op.run(c)
		return e
	}
	if !op.writes {
		refused = act(c.server.state.snapshot())
		return result, refused
	}
	refused, err := c.server.state.update(act)
	if err != nil {
		return nil, c.server.fault("saving state", err)
	}
	return result, refused
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
