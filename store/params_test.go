package store

import (
	"database/sql"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

func TestParametersInOrderBecomeAnonymous(t *testing.T) {
	for query, want := range map[string]string{
		"":                                  "",
		"SELECT 1":                          "SELECT 1",
		"SELECT $1":                         "SELECT ?",
		"SELECT $1,$2, $3+$4":               "SELECT ?,?, ?+?",
		"SELECT 'a', $1, '$2', '', 'it''s'": "SELECT 'a', ?, '$2', '', 'it''s'",
		"SELECT ''', $1, ''', $1":           "SELECT ''', $1, ''', ?",
		"a=$1 AND b<>$2 LIMIT $3":           "a=? AND b<>? LIMIT ?",
		"$1,$2,$3,$4,$5,$6,$7,$8,$9,$10":    "?,?,?,?,?,?,?,?,?,?",
	} {
		if got := anonymous(query); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	for _, query := range []string{
		"SELECT $2, $1", "SELECT $1, $1", "SELECT $1, $3", "SELECT $2", "SELECT $0", "SELECT $01", "SELECT $1, $10", "SELECT $1, $2, $1",
		"SELECT $1a", "SELECT $1_", "SELECT $1$", "SELECT $1é", "SELECT $1::a", "SELECT $1(a)", "SELECT a$1", "SELECT é$1", "SELECT $", "SELECT $a",
		"SELECT $1, ?", "SELECT $1, ?2", "SELECT $1, :a", "SELECT $1, @a",
		`SELECT $1 AS "$2"`, `SELECT $1 AS "'"`, "SELECT $1 AS `'`", "SELECT $1 AS [']", "SELECT $1 -- '", "SELECT $1 /* ' */", "SELECT $1 - $2", "SELECT $1 / $2",
	} {
		if got := anonymous(query); got != query {
			t.Errorf("%s became %s", query, got)
		}
	}
}

// FuzzAnonymous: numbered again, the parameters are those of the query.
func FuzzAnonymous(f *testing.F) {
	for _, query := range []string{"SELECT $1, '$2', $2", "SELECT ''', $1, ''', $1", "$1$2", "a$1", `"$1"`, "'", "$1'?'$2"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		got := anonymous(query)
		if got == query {
			return
		}
		parts, n := strings.Split(got, "'"), 0
		for i := 0; i < len(parts); i += 2 { // those between are quoted
			for strings.Contains(parts[i], "?") {
				n++
				parts[i] = strings.Replace(parts[i], "?", "$"+strconv.Itoa(n), 1)
			}
		}
		if numbered := strings.Join(parts, "'"); numbered != query {
			t.Errorf("%q became %q, and numbered again %q", query, got, numbered)
		}
	})
}

// Whatever a query's parameters look like, they get the arguments that the driver
// alone gives them.
func TestParametersGetTheirArguments(t *testing.T) {
	s, path := newStore(t)
	plain, err := openPlain(path, readerSettings)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for _, query := range []string{
		"SELECT $1, $2, $3", "SELECT $3, $1, $2", "SELECT $1, '$2 ? it''s' || $2, $3", "SELECT $1 || $2, $2, $3", "SELECT ?, ?, ?", "SELECT ?2, ?3, ?1",
		"SELECT $1, $2 AS \"it's\", $3 -- $1'", "SELECT $1, /* ' */ $2, $3", "SELECT x'00', $1, $2 || $3", "SELECT $1, $2, $3 || ''''",
	} {
		want, wantErr := threeColumns(plain.QueryRowContext(t.Context(), query, "a", "b", "c"))
		err := s.View(t.Context(), func(tx *sql.Tx) error {
			got, err := threeColumns(tx.QueryRowContext(t.Context(), query, "a", "b", "c"))
			if !reflect.DeepEqual(got, want) || (err == nil) != (wantErr == nil) {
				t.Errorf("%s: got %q, %v; the driver gives %q, %v", query, got, err, want, wantErr)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if wantErr != nil {
			t.Errorf("%s: %v", query, wantErr)
		}
	}
	// One too few is an error and not NULL, in either form.
	for _, query := range []string{"SELECT $1, $2, $3", "SELECT $2, $1, $3"} {
		err := s.View(t.Context(), func(tx *sql.Tx) error {
			got, err := threeColumns(tx.QueryRowContext(t.Context(), query, "a", "b"))
			if err == nil {
				return fmt.Errorf("%s with two arguments gave %q", query, got)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func threeColumns(row *sql.Row) (got [3]string, err error) {
	err = row.Scan(&got[0], &got[1], &got[2])
	return got, err
}
