package trail

import (
	"bytes"
	"compress/gzip"
	"os"
	"reflect"
	"testing"
)

// A file is read to its end or refused, and its events come one by one; packed, it
// reads the same.
func FuzzReadFile(f *testing.F) {
	data, err := os.ReadFile("testdata/records.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(data), `{"Records":[]}`, `{"Events":[],"NextToken":null}`, `{"Events":[{"EventId":"e","CloudTrailEvent":"{}"}]}`,
		`{"Records":[{"eventVersion":"1.0","eventID":"e","eventTime":"2026-12-07T15:41:37Z","eventSource":"s","eventName":"n","userIdentity":{}}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		plain, err := eventsOf(data, false)
		for _, e := range plain {
			if e.ID == "" || e.Name == "" {
				t.Errorf("got %+v", e)
			}
		}
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		unpacked, again := eventsOf(packed.Bytes(), true)
		if (err == nil) != (again == nil) || !reflect.DeepEqual(plain, unpacked) {
			t.Errorf("want %+v (%v), packed %+v (%v)", plain, err, unpacked, again)
		}
	})
}

func eventsOf(data []byte, packed bool) (events []Event, err error) {
	err = readFile(bytes.NewReader(data), packed, func(e Event) { events = append(events, e) })
	return events, err
}
