package audit

// SQL is the statement that Find runs, for tests that look at how it is carried out.
func (q Query) SQL() (string, []any, error) {
	rest, args, err := q.build()
	return "SELECT " + entryColumns + " FROM audit_records " + rest, args, err
}
