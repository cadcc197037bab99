// Package anchor keeps second places where audit records are made durable,
// beside the database of the broker, so that a broker whose database is lost, or put
// back to an earlier copy, can be held against what is kept here. Unless the broker is
// told that they follow (BROKER_AUDIT_POLICY=sqlite_primary), no answer leaves before
// its record is durable in all that are configured.
//
// File is an append-only file of the records, Checkpoints one of the signed heads of
// their log, such as the broker's file of heads; each best on another disk than the
// database.
//
// What they keep safe: a record whose Put returned nil, a head whose Publish did, is on
// the disk, whole, in the file of that name, whatever happens to the process or the
// power afterwards and as far as the disk keeps what it says it has flushed. When the
// disk fails, when something else writes to the file, cuts it, moves it or takes it
// away, the next Put or Publish says so and nothing is acknowledged.
//
// What they do not: whoever can write a file can change it. That shows only where
// records are held against a head, and a head against the key that signed it, which
// nothing here does. Records that were never acknowledged may be in a file too.
package anchor

import "errors"

var (
	// ErrInUse is returned while a file is open already, here or in another process.
	ErrInUse = errors.New("file is in use by another broker")
	// ErrClosed is returned by Put and Publish once Close has been called.
	ErrClosed = errors.New("file is closed")
)
