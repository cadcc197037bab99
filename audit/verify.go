package audit

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// A Verification holds a whole log against its signed head, against itself and
// against what was seen of it elsewhere. It trusts nothing but the verifiers.
//
// It gives two verdicts. Integrity: each record is the one that was written, and the
// tree of the records has the root that was signed. Completeness: no record is
// missing or there twice, and nothing that was ever witnessed is gone.
//
// What no verification can see: records that were cut off behind the last head, and
// with it a whole log that was put back to an earlier state, unless a head or a
// record from after that was witnessed elsewhere; and what somebody appends who holds
// the key of the log.
type Verification struct {
	Origin    string          // which log
	Verifiers []note.Verifier // of the keys that may have signed its heads
	Witnesses []*Witness      // what was seen elsewhere; used up by one verification
	Schema    []string        // of a database: what of its schema is not as it was made (store.SchemaChanges)

	Now      time.Time                // for the age of what is unfinished; of an export, that of its last record
	Keep     int                      // how many findings of each code the report has in full; 0 is DefaultKeep
	Workers  int                      // how many records are read side by side; 0 is one a core
	Progress func(place, total int64) // called now and then, by one goroutine at a time; may be nil
}

// DefaultKeep is how many findings of each code a report has in full.
const DefaultKeep = 20

// How old something may be that is unfinished.
const (
	intentAge   = time.Minute      // an intent without an outcome; the broker settles those older
	unplacedAge = 10 * time.Second // a record without a place in the tree; the broker places it within a second
	aheadOf     = time.Minute      // how far the clock of who wrote it may be ahead
)

// A Verdict is what a verification comes to.
type Verdict string

// The verdicts. One is unknown where what it rests on is not there to be looked at:
// no head at all, say.
const (
	Intact     Verdict = "INTACT"
	Broken     Verdict = "BROKEN"
	Complete   Verdict = "COMPLETE"
	Incomplete Verdict = "INCOMPLETE"
	Unknown    Verdict = "UNKNOWN"
)

// A Code names a kind of finding.
type Code string

// The codes. Each finding has a place, the first one it is about, and both values.
const (
	RecordChanged  Code = "record_changed"  // what the record says is not what the tree has
	RecordMoved    Code = "record_moved"    // it is the record of another place
	HashChanged    Code = "hash_changed"    // the hash beside a record is not the record's
	LineUnreadable Code = "line_unreadable" // a line of an export is none
	TileChanged    Code = "tile_changed"    // the tree beside the records is not theirs
	TileExtra      Code = "tile_extra"      // a tile that no tree of this size has
	HeadUnsigned   Code = "head_unsigned"   // no verifier signed the head
	HeadSize       Code = "head_size"       // the head is not of the size that stands beside it
	RootChanged    Code = "root_changed"    // the records have another root than the one that was signed
	SchemaChanged  Code = "schema_changed"  // the database's schema is not as the broker made it

	RecordMissing    Code = "record_missing"    // a place has no record, and was not pruned
	RecordTwice      Code = "record_twice"      // a line of an export repeats a place or goes back
	RecordOutside    Code = "record_outside"    // a record before the first place
	RecordsCut       Code = "records_cut"       // the database gave places that have no record now, at the end
	RecordUnplaced   Code = "record_unplaced"   // a record is not in the tree, and is too old for that
	RolledBack       Code = "rolled_back"       // the log was seen with more records
	Forked           Code = "forked"            // the log was seen with another record there
	WitnessUnsigned  Code = "witness_unsigned"  // what contradicts the log is not signed by its key
	WitnessUnread    Code = "witness_unread"    // a line of what was seen elsewhere is none
	WitnessBackwards Code = "witness_backwards" // a file of heads goes back
	PruneUnrecorded  Code = "prune_unrecorded"  // records are gone that no record says were pruned
	EraseUnrecorded  Code = "erase_unrecorded"  // a record was erased, and no record says so
	IntentOpen       Code = "intent_open"       // an intent has no outcome
	SettledTwice     Code = "settled_twice"     // an intent has more than one outcome
	SettlesNothing   Code = "settles_nothing"   // an outcome of no intent
)

// What a code spoils.
const (
	spoilsIntegrity    = "integrity"
	spoilsCompleteness = "completeness"
	spoilsBoth         = "both" // a record at another's place is neither what the tree has there nor in order
)

var spoils = map[Code]string{
	RecordChanged: spoilsIntegrity, RecordMoved: spoilsBoth, HashChanged: spoilsIntegrity, LineUnreadable: spoilsIntegrity,
	TileChanged: spoilsIntegrity, TileExtra: spoilsIntegrity, HeadUnsigned: spoilsIntegrity, HeadSize: spoilsIntegrity, RootChanged: spoilsIntegrity,
	SchemaChanged: spoilsIntegrity,

	RecordMissing: spoilsCompleteness, RecordTwice: spoilsCompleteness, RecordOutside: spoilsCompleteness, RecordsCut: spoilsCompleteness,
	RecordUnplaced: spoilsCompleteness, RolledBack: spoilsCompleteness, Forked: spoilsCompleteness, WitnessUnsigned: spoilsCompleteness,
	WitnessUnread: spoilsCompleteness, WitnessBackwards: spoilsCompleteness, PruneUnrecorded: spoilsCompleteness, EraseUnrecorded: spoilsCompleteness,
	IntentOpen: spoilsCompleteness, SettledTwice: spoilsCompleteness, SettlesNothing: spoilsCompleteness,
}

// Codes are all codes, each with what it spoils: integrity, completeness or both.
func Codes() map[Code]string { return maps.Clone(spoils) }

// A Finding is one thing that is not as it must be.
type Finding struct {
	Code   Code   `json:"code"`
	Place  int64  `json:"place,omitempty"` // the first that it is about; 0 where it is about none
	ID     string `json:"id,omitempty"`    // of the record there, where one can be read
	Want   string `json:"want"`
	Got    string `json:"got"`
	Source string `json:"source,omitempty"` // where what it contradicts was seen
	More   int64  `json:"more,omitempty"`   // of rolled_back: so many later heads from there are not reached either
}

// A Report is the outcome of a verification.
type Report struct {
	Origin       string  `json:"origin"`
	Integrity    Verdict `json:"integrity"`
	Completeness Verdict `json:"completeness"`

	Size     int64  `json:"size"` // how many records the head counts
	Root     string `json:"root"` // that the head has, in hexadecimal
	Records  int64  `json:"records"`
	Unplaced int64  `json:"unplaced"` // records that have no place in the tree yet
	Pruned   int64  `json:"pruned"`   // places whose records were pruned
	Erased   int64  `json:"erased"`   // records whose personal members were erased
	Heads    int64  `json:"heads"`    // witnessed heads that the log extends
	Anchored int64  `json:"anchored"` // witnessed records that the log has

	Findings []Finding      `json:"findings"` // the first of each code
	Counts   map[Code]int64 `json:"counts"`   // how many there are of each
	Unsure   []string       `json:"unsure,omitempty"`
}

// find adds a finding.
func (r *Report) find(keep int, f Finding) {
	r.Counts[f.Code]++
	if r.Counts[f.Code] <= int64(keep) {
		r.Findings = append(r.Findings, f)
	}
}

// conclude gives the verdicts that the findings come to.
func (r *Report) conclude(treeUnknown, placesUnknown string) {
	r.Integrity, r.Completeness = Intact, Complete
	if treeUnknown != "" {
		r.Integrity, r.Unsure = Unknown, append(r.Unsure, "integrity: "+treeUnknown)
	}
	if placesUnknown != "" {
		r.Completeness, r.Unsure = Unknown, append(r.Unsure, "completeness: "+placesUnknown)
	}
	for code := range r.Counts {
		if spoils[code] != spoilsCompleteness {
			r.Integrity = Broken
		}
		if spoils[code] != spoilsIntegrity {
			r.Completeness = Incomplete
		}
	}
}

func (v *Verification) check() error {
	if v.Origin == "" || len(v.Verifiers) == 0 {
		return errors.New("verifying the audit log: want an origin and a verifier of its key")
	}
	for _, k := range v.Verifiers {
		if k.Name() != v.Origin {
			return fmt.Errorf("verifying the audit log: want keys named as its origin %q, got %q", v.Origin, k.Name())
		}
	}
	return nil
}

// open reads a head that one of the keys signed.
func (v *Verification) open(text string) (Checkpoint, error) {
	return OpenCheckpoint(text, v.Origin, v.Verifiers...)
}

func (v *Verification) keep() int {
	if v.Keep > 0 {
		return v.Keep
	}
	return DefaultKeep
}

func (v *Verification) workers() int {
	if v.Workers > 0 {
		return v.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// claimed is a checkpoint whose signature is not looked at.
func claimed(text string) (Checkpoint, error) {
	n, err := note.Open([]byte(text), nil)
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &unverified):
		n = unverified.Note
	case err != nil:
		return Checkpoint{}, err
	}
	return readNote(n, text)
}

func hexOf(b []byte) string {
	if len(b) == 0 {
		return "none"
	}
	return hex.EncodeToString(b)
}
