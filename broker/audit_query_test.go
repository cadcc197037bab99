package broker

import (
	"testing"

	"agentkeys/audit"
)

// What is read as a query is within its limits, and leads from its cursor to the same
// place; a cursor is read in its one spelling.
func FuzzAuditQuery(f *testing.F) {
	q := auditQuery{Reading: audit.Reading{Limit: audit.DefaultLimit, Owner: &audit.Owner{Account: "aa"}}}
	f.Add("", q.cursorAt(7), int64(7))
	f.Add("limit=1000&order=asc&since=0&until=253402300799", "AQ", int64(1))
	f.Add("action=a.b&outcome=failed&grant_id=grn-1&account=aa&tenant=0xa", "AQAAAAAAAAAHAAAAAAAAAAA", int64(1<<62))
	f.Add("limit=+5&limit=%35", "", int64(0))
	f.Fuzz(func(t *testing.T, raw, cursor string, place int64) {
		q, err := parseAuditQuery(raw)
		if err != nil {
			return
		}
		if q.Limit < 1 || q.Limit > audit.MaxLimit || q.Since.Unix() > lastSecond || q.Until.Unix() > lastSecond || q.Owner != nil || q.From != 0 ||
			len(q.filters())+len("own, 1000 shown") > 512 || len(q.whose()) > 256 {
			t.Errorf("%q is read as %+v", raw, q)
		}
		q.Owner = &audit.Owner{Account: "aa"}
		if place > 0 {
			q.cursor = q.cursorAt(place)
			if err := q.locate(); err != nil || q.From != place {
				t.Errorf("the cursor of place %d leads to %d, %v", place, q.From, err)
			}
		}
		q.From, q.cursor = 0, cursor
		if err := q.locate(); err == nil && cursor != "" && q.cursorAt(q.From) != cursor {
			t.Errorf("the cursor %q is read as %q", cursor, q.cursorAt(q.From))
		}
	})
}

func FuzzSizes(f *testing.F) {
	f.Add("from=1&to=2")
	f.Add("from=1")
	f.Add("from=01&from=1;to=%31")
	f.Fuzz(func(t *testing.T, raw string) {
		from, to, err := parseSizes(raw)
		if err == nil && (from < 1 || from > maxSize || to < 0 || to > maxSize) {
			t.Errorf("%q is read as %d and %d", raw, from, to)
		}
	})
}
