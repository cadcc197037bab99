package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"agentkeys/audit"
)

// terminalWidth is that of the lines for people, in characters.
const terminalWidth = 100

const recordHeader = " PLACE  TIME (UTC)           ACTION               OUTCOME     WHO         ABOUT"

// writeRecord prints a record on one line. What does not fit is left out: "audit show"
// has all of it. then is the outcome of what settles it, where that is known.
func writeRecord(w io.Writer, e *audit.Entry, then string) error {
	line := fmt.Sprintf("%6d  %s  %-20s %-11s %-11s ", e.Seq, e.Time.Format("2006-01-02 15:04:05"), e.Action, e.Outcome, who(e))
	line += about(e, then, terminalWidth-utf8.RuneCountInString(line))
	_, err := fmt.Fprintln(w, printable(strings.TrimRight(line, " ")))
	return err
}

// who is whose prefix it is about, or else who asked.
func who(e *audit.Entry) string {
	if len(e.Person) > 0 {
		return "erased"
	}
	for _, name := range []string{e.Tenant, e.Wallet, e.IdentityValue, e.OmniAccount} {
		if name != "" {
			return shortened(name)
		}
	}
	return "-"
}

// about is what tells a record from others of its kind, the most telling first, as far
// as there is room.
func about(e *audit.Entry, then string, room int) string {
	if then != "" {
		then = "then " + then
	}
	return beside([]string{then, e.Reason, e.CredentialID, e.GrantID, e.Detail, e.ScopePath, e.Agent, e.TokenID}, room)
}

// beside puts the first of the parts, cut if it must be, and the others of which all
// fits beside it into so many characters.
func beside(parts []string, room int) string {
	text := ""
	for _, part := range parts {
		switch {
		case part == "":
		case text == "":
			text = cut(part, room)
		case utf8.RuneCountInString(text+" "+part) <= room:
			text += " " + part
		}
	}
	return text
}

// cut shortens a text to so many characters.
func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:max(width-1, 0)]) + "…"
}
