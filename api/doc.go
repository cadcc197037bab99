// Package api holds the words that the broker and its clients share: paths,
// request and response bodies, and error codes. It has no behaviour beyond
// turning an error into a problem document and back, so that a client sees the
// same error value that the server raised.
//
// Bodies are JSON in snake_case; times are Unix seconds unless a member says
// otherwise.
package api
