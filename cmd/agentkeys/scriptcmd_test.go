package main

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// ports NAME... sets each variable to a loopback address whose port is free.
func ports(ts *testscript.TestScript, neg bool, names []string) {
	if neg || len(names) == 0 {
		ts.Fatalf("usage: ports NAME...")
	}
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer l.Close()
		ts.Setenv(name, l.Addr().String())
	}
}

// until URL waits until the URL answers 200.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: until URL")
	}
	var last error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get(args[0])
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		last = err
	}
	ts.Fatalf("%s did not answer 200: %v", args[0], last)
}

// sqlite3 is the program of SQLite's own shell, "" where there is none. In the tests
// themselves sqliteShell goes by its name.
var sqlite3, _ = exec.LookPath("sqlite3")

// sqliteShell is as much of the sqlite3 program as the run-book's queries take, for
// machines that lack it: -readonly FILE SQL, rows on lines, values between bars.
func sqliteShell() {
	if err := queryReadOnlyTo(os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sqlite3:", err)
		os.Exit(1)
	}
}

func queryReadOnlyTo(w io.Writer, args []string) (err error) {
	if len(args) != 3 || args[0] != "-readonly" {
		return fmt.Errorf("want -readonly FILE SQL, got %q", args)
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: args[1]}).EscapedPath()+"?mode=ro")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.Query(args[2])
	if err != nil {
		return err
	}
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		line := make([]string, len(values))
		for i, v := range values {
			line[i] = v.String
		}
		fmt.Fprintln(w, strings.Join(line, "|"))
	}
	return rows.Err()
}
