package broker

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"agentkeys/api"
	"agentkeys/audit"
)

// auditQuery is what a reader of the audit log asks for.
type auditQuery struct {
	audit.Reading
	cursor       string
	since, until string // as they were sent
}

const (
	letters = "abcdefghijklmnopqrstuvwxyz"
	digits  = "0123456789"
)

// filterForms are the forms of the filters' values. None lets in what could not be
// recorded or printed as it is.
var filterForms = map[string]struct {
	chars string
	max   int
}{
	"account":  {"abcdef" + digits, 64},
	"tenant":   {letters + digits, 128},
	"grant_id": {letters + strings.ToUpper(letters) + digits + "-_", 64},
	"action":   {letters + digits + "_.", 64},
	"outcome":  {letters + digits + "_", 32},
	"order":    {letters, 4},
	"cursor":   {letters + strings.ToUpper(letters) + digits + "-_", 64},
	"limit":    {digits, 4},
	"since":    {digits, 12},
	"until":    {digits, 12},
}

// parseAuditQuery reads the parameters, each at most once and none empty.
func parseAuditQuery(raw string) (auditQuery, error) {
	q := auditQuery{Reading: audit.Reading{Limit: audit.DefaultLimit}}
	parameters, err := parseParameters(raw, func(name, value string) error {
		form, known := filterForms[name]
		if known && (len(value) > form.max || strings.Trim(value, form.chars) != "") {
			return api.Errorf(api.CodeBadRequest, "%s: want at most %d characters of %s", name, form.max, form.chars)
		}
		if !known {
			return unknownParameter(name)
		}
		return nil
	})
	if err != nil {
		return q, err
	}
	q.Account, q.Tenant, q.GrantID, q.Action, q.Outcome = parameters["account"], parameters["tenant"], parameters["grant_id"], parameters["action"], parameters["outcome"]
	if q.Outcome != "" && !slices.Contains(audit.Outcomes(), q.Outcome) { // a slip must not read as "there was nothing"
		return q, api.Errorf(api.CodeBadRequest, "outcome: want one of %s", strings.Join(audit.Outcomes(), ", "))
	}
	q.cursor, q.since, q.until = parameters["cursor"], parameters["since"], parameters["until"]
	switch order := parameters["order"]; order {
	case "", "desc":
	case "asc":
		q.Ascending = true
	default:
		return q, api.Errorf(api.CodeBadRequest, "order: want asc or desc")
	}
	return q, q.parseNumbers(parameters["limit"])
}

func (q *auditQuery) parseNumbers(limit string) error {
	if limit != "" {
		n, err := parseNumber("limit", limit, 1, audit.MaxLimit)
		if err != nil {
			return err
		}
		q.Limit = int(n)
	}
	for _, t := range []struct {
		name, value string
		into        *time.Time
	}{{"since", q.since, &q.Since}, {"until", q.until, &q.Until}} {
		if t.value == "" {
			continue
		}
		n, err := parseNumber(t.name, t.value, 0, lastSecond)
		if err != nil {
			return err
		}
		*t.into = time.Unix(n, 0)
	}
	if q.since != "" && q.until != "" && !q.Since.Before(q.Until) {
		return api.Errorf(api.CodeBadRequest, "until: want a time after since; what is shown lies before until")
	}
	return nil
}

// lastSecond is the last of the year 9999, as far as records go.
const lastSecond = 253402300799

// whose says whose records the query is for. It is the one part of a query that is
// personal, so it stands where a person can be erased from.
func (q *auditQuery) whose() string {
	return strings.TrimSpace(named("account", q.Account) + named("tenant", q.Tenant))
}

// filters says what else limits the query.
func (q *auditQuery) filters() string {
	order := ""
	if q.Ascending {
		order = "asc"
	}
	text := named("action", q.Action) + named("outcome", q.Outcome) + named("grant_id", q.GrantID) + named("since", q.since) + named("until", q.until) + named("order", order)
	if text == "" {
		return ""
	}
	return ": " + strings.TrimSpace(text)
}

func named(name, value string) string {
	if value == "" {
		return ""
	}
	return name + "=" + value + " "
}

// A cursor is a place in the log and a mark of the query that it belongs to: version,
// place, mark, in base64url. It is no secret and it opens nothing: what a caller may
// see depends on the session alone, and a cursor that was tampered with leads to
// another place among that.
const (
	cursorVersion = 1
	cursorMark    = 8 // bytes
	cursorSize    = 1 + 8 + cursorMark
)

// mark tells queries apart whose cursors must not be mixed: a page of the one behind a
// page of the other would skip records without a sign of it.
func (q *auditQuery) mark() []byte {
	owner := "" // an auditor's
	if q.Owner != nil {
		owner = q.Owner.Account
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{owner, q.whose(), q.filters()}, "\x00")))
	return sum[:cursorMark]
}

func (q *auditQuery) cursorAt(place int64) string {
	b := binary.BigEndian.AppendUint64([]byte{cursorVersion}, uint64(place))
	return base64.RawURLEncoding.EncodeToString(append(b, q.mark()...))
}

// locate takes the query's place in the log from its cursor.
func (q *auditQuery) locate() error {
	if q.cursor == "" {
		return nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(q.cursor)
	if err != nil || len(b) != cursorSize || b[0] != cursorVersion || !slices.Equal(b[9:], q.mark()) {
		return api.Errorf(api.CodeCursorInvalid, "the cursor is not from a page of this query")
	}
	q.From = int64(binary.BigEndian.Uint64(b[1:]))
	if q.From < 0 || q.From == 0 && !q.Ascending {
		return api.Errorf(api.CodeCursorInvalid, "the cursor leads to no place in the log")
	}
	return nil
}

// parseSizes reads the sizes of two trees; the second is 0 where it was not sent.
func parseSizes(raw string) (from, to int64, err error) {
	parameters, err := parseParameters(raw, func(_, value string) error { return nil })
	if err != nil {
		return 0, 0, err
	}
	if parameters["from"] == "" {
		return 0, 0, api.Errorf(api.CodeBadRequest, "from: want the size of a tree, 1 or more")
	}
	if from, err = parseNumber("from", parameters["from"], 1, maxSize); err != nil || parameters["to"] == "" {
		return from, 0, err
	}
	to, err = parseNumber("to", parameters["to"], 1, maxSize)
	return from, to, err
}

// maxSize is more than a log can have.
const maxSize = 1 << 53

// parseQuery reads a query string. URL.Query drops what is malformed without a word,
// and a filter that was dropped would show more than was asked for.
func parseQuery(raw string) (url.Values, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, api.Errorf(api.CodeBadRequest, "the query string is malformed")
	}
	return values, nil
}

// parseParameters reads a query string: each parameter once, none of them empty, and
// each as check takes it.
func parseParameters(raw string, check func(name, value string) error) (map[string]string, error) {
	values, err := parseQuery(raw)
	if err != nil {
		return nil, err
	}
	parameters := make(map[string]string, len(values))
	for name, all := range values {
		if err := check(name, all[0]); err != nil {
			return nil, err
		}
		if len(all) != 1 || all[0] == "" {
			return nil, api.Errorf(api.CodeBadRequest, "%s: want the parameter once and with a value, got it %d times; or leave it out", clip(name), len(all))
		}
		parameters[name] = all[0]
	}
	return parameters, nil
}

func unknownParameter(name string) error {
	return api.Errorf(api.CodeUnknownField, "the parameter %q is not known here", clip(name))
}

// noParameters refuses parameters other than the known ones.
func noParameters(c *call, known ...string) error {
	_, err := parseParameters(c.r.URL.RawQuery, func(name, _ string) error {
		if !slices.Contains(known, name) {
			return unknownParameter(name)
		}
		return nil
	})
	return err
}

// parseNumber reads a whole number in its one spelling.
func parseNumber(name, value string, low, high int64) (int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < low || n > high || fmt.Sprint(n) != value {
		return 0, api.Errorf(api.CodeBadRequest, "%s: want a whole number from %d to %d", name, low, high)
	}
	return n, nil
}
