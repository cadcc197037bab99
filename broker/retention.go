package broker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// noteOldEvery is how often the log of the broker tells of records that are older than
// the retention.
const noteOldEvery = 24 * time.Hour

// oldest is the time of the oldest record that is kept, zero where there is none.
func (b *Broker) oldest(ctx context.Context) (time.Time, error) {
	var millis int64
	err := b.Store.View(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, "SELECT time FROM audit_records ORDER BY seq LIMIT 1").Scan(&millis)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("looking for the oldest audit record: %w", err)
	}
	return time.UnixMilli(millis), nil
}

// noteOld tells of records that are older than the retention. The broker deletes none:
// what an export has is for the operator to say, and agentkeys audit prune checks it.
func (b *Broker) noteOld(ctx context.Context) {
	if b.AuditRetention == 0 {
		return
	}
	oldest, err := b.oldest(ctx)
	switch {
	case err != nil:
		b.Log.WarnContext(ctx, "how old the audit records are is not known", "error", err)
	case !oldest.IsZero() && oldest.Before(b.Now().Add(-b.AuditRetention)):
		b.Log.WarnContext(ctx, "audit records are older than BROKER_AUDIT_RETENTION_DAYS: export them, and prune them with agentkeys audit prune",
			"oldest", oldest.UTC().Format(time.RFC3339), "retention_days", int(b.AuditRetention/(24*time.Hour)))
	}
}

// age registers how old the oldest record is.
func (m *metrics) age(b *Broker) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "agentkeys_audit_oldest_record_age_seconds", Help: "Age of the oldest audit record that is kept, 0 where there is none.",
	}, func() float64 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		oldest, err := b.oldest(ctx)
		if err != nil || oldest.IsZero() {
			return 0
		}
		return b.Now().Sub(oldest).Seconds()
	}))
}
