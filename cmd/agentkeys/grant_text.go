package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"agentkeys/api"
	"agentkeys/audit"
)

// writeGrants prints a line for each grant.
func writeGrants(w io.Writer, grants []api.Grant, now time.Time) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "GRANT\tYOU ARE\tOTHER SIDE\tSTATUS\tMAY\tUSED\tENDS\tPATH")
	for _, g := range grants {
		other := g.DaemonAddress
		if g.Role == api.GrantRoleDaemon {
			other = g.Wallet
		}
		row := []string{g.GrantID, g.Role, shortened(other), g.Status, shownActions(g.Actions), fmt.Sprintf("%d/%d", g.UsedCount, g.MaxUses),
			distance(time.Unix(g.ExpiresAt, 0).Sub(now)), g.ScopePath}
		for i, text := range row {
			row[i] = printable(text)
		}
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}

// writeGrant prints all about one grant.
func writeGrant(w io.Writer, g api.Grant) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(tw, "%s\t%s\n", name, printable(value)) }
	row("grant", g.GrantID)
	row("status", g.Status)
	row("you are", "its "+g.Role)
	row("owner", g.Wallet)
	row("daemon", g.DaemonAddress)
	row("may", strings.Join(g.Actions, ", ")+" at "+g.Service)
	row("under", shownPath(g.ScopePath)+" of "+g.Wallet)
	row("made", moment(g.CreatedAt))
	row("ends", moment(g.ExpiresAt))
	if g.RevokedAt != nil {
		row("revoked", moment(*g.RevokedAt))
	}
	row("used", fmt.Sprintf("%d of %s", g.UsedCount, audit.Count(g.MaxUses, "time")))
	if g.LastUsedAt != nil {
		row("last use", moment(*g.LastUsedAt)+", audit record "+g.LastRecordID)
	}
	row("session at AWS", g.SessionName)
	return tw.Flush()
}

// longestSession is the longest that STS gives (AssumeRoleWithWebIdentity,
// DurationSeconds); how long a broker asks for, no answer of its says.
const longestSession = 12 * time.Hour

// writeLeft says what a grant that was revoked has left at AWS, and how to end it.
func writeLeft(w io.Writer, g api.Grant) {
	if g.LastUsedAt == nil {
		fmt.Fprintln(w, "It was never used: no credentials are out under it.")
		return
	}
	end := min(g.ExpiresAt, time.Unix(*g.LastUsedAt, 0).Add(longestSession).Unix())
	fmt.Fprintf(w, "Credentials that are out already work on: until their end, %s at the latest.\n", moment(end))
	if tenant, err := parseOwner(g.Wallet); err == nil { // what is to be pasted is what it looks like
		fmt.Fprintf(w, "To end them now is for the operator of the AWS side: agentkeys revoke --tenant %s\n", tenant)
	}
}

// shownPath is a path where it stands in a sentence.
func shownPath(path string) string {
	if path == "/" {
		return "all of the prefix"
	}
	return path + "/"
}

func shownActions(actions []string) string {
	if len(actions) == 4 {
		return "all"
	}
	return strings.Join(actions, ",")
}

func moment(seconds int64) string {
	return time.Unix(seconds, 0).UTC().Format("2006-01-02 15:04:05 UTC")
}

// shortened leaves of an address what tells it from others at a glance.
func shortened(address string) string {
	if len(address) < 16 {
		return address
	}
	return address[:6] + "…" + address[len(address)-4:]
}

// distance says in one unit, rounded, how far from now something is.
func distance(d time.Duration) string {
	amount := d.Abs().Round(time.Second)
	unit, name := time.Second, "s"
	switch {
	case amount >= 48*time.Hour:
		unit, name = 24*time.Hour, "d"
	case amount >= 2*time.Hour:
		unit, name = time.Hour, "h"
	case amount >= 2*time.Minute:
		unit, name = time.Minute, "m"
	}
	text := fmt.Sprintf("%d%s", amount.Round(unit)/unit, name)
	if d < 0 {
		return text + " ago"
	}
	return "in " + text
}
