// Package anchor keeps second places where audit records are made durable,
// beside the database of the broker. A credential leaves only when its record is
// durable in all that are configured, so a broker whose database is lost, or put
// back to an earlier copy, can be held against what is kept here.
//
// File is an append-only file, best on another disk than the database.
//
// What it keeps safe: a record whose Put returned nil is on the disk, whole, in
// the file of that name, whatever happens to the process or the power afterwards
// and as far as the disk keeps what it says it has flushed. When the disk fails,
// when something else writes to the file, cuts it, moves it or takes it away,
// the next Put says so and nothing is acknowledged.
//
// What it does not: whoever can write the file can change it, and nothing in it
// shows that. Records that were never acknowledged may be in it too.
package anchor

import "errors"

var (
	// ErrInUse is returned by OpenFile while another File, here or in another
	// process, has the file open.
	ErrInUse = errors.New("file is in use by another broker")
	// ErrClosed is returned by Put once Close has been called.
	ErrClosed = errors.New("file is closed")
)
