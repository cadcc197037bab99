package broker_test

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/broker"
)

// Old records are told of at the start, and none is deleted.
func TestOldRecordsAreToldOf(t *testing.T) {
	const day = 24 * time.Hour
	k := agentkeystest.New(t, func(c *broker.Config) { c.AuditRetention = 30 * day })
	const told = "older than BROKER_AUDIT_RETENTION_DAYS"
	begin := func() {
		must(t, k.Broker.Start(t.Context(), broker.Start{Version: "1"}))
	}
	begin() // over an empty log
	oldest := k.Clock.Now()
	k.Clock.Move(30 * day)
	begin()
	if strings.Contains(k.Log.String(), told) {
		t.Error("told of records that are as old as they may be")
	}
	k.Clock.Move(time.Second)
	begin()
	if log := k.Log.String(); !strings.Contains(log, told) || !strings.Contains(log, `"oldest":"`+oldest.UTC().Format(time.RFC3339)+`","retention_days":30`) {
		t.Errorf("the log says nothing of records that are older: %s", log)
	}
	if n := len(records(t, k)); n != 6 {
		t.Errorf("%d records, want two of each of three starts", n)
	}
	if age := gauge(t, k, "agentkeys_audit_oldest_record_age_seconds"); age != (30*day + time.Second).Seconds() {
		t.Errorf("the age of the oldest is given as %v seconds", age)
	}
	k.Quiet(t)
	must(t, k.Store.Update(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE audit_head SET size = 6, pruned = 6")
		if err == nil {
			_, err = tx.Exec("DELETE FROM audit_records")
		}
		return err
	}))
	if age := gauge(t, k, "agentkeys_audit_oldest_record_age_seconds"); age != 0 {
		t.Errorf("without a record its age is %v", age)
	}
}

func gauge(t *testing.T, k *agentkeystest.Broker, name string) float64 {
	t.Helper()
	families, err := k.Broker.Registry().Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}
