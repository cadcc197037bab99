package broker

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agentkeys/api"
	"agentkeys/audit"
)

const settleBatch = 500 // rows in one transaction, which others wait for

// SettleAll settles every pending mint, for a process that has just taken over the
// database: nobody else is at work on them.
func (b *Broker) SettleAll(ctx context.Context) error {
	return b.settle(ctx, time.UnixMilli(1<<62))
}

// Settle settles the mints whose deadline has passed without an outcome: what STS
// may have given for them was not released. And it deletes the calls whose window has
// ended, with their answers.
func (b *Broker) Settle(ctx context.Context) error {
	return errors.Join(b.settle(ctx, b.Now()), b.Summarise(ctx, false))
}

// settle does so with the pending mints that are to be settled by deadline. Nothing
// waits for the anchors, since nothing is released.
func (b *Broker) settle(ctx context.Context, deadline time.Time) error {
	c := &call{ctx: ctx, now: b.Now(), requestID: "settle-" + rand.Text()}
	for {
		due, err := b.due(ctx, c.now, deadline)
		if err != nil || !due {
			return err
		}
		err = b.commit(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) error {
			rows, err := pending(ctx, tx, deadline)
			if err != nil {
				return err
			}
			for _, row := range rows {
				if err := b.settleRow(ctx, tx, c, row); err != nil {
					return err
				}
			}
			return forget(ctx, tx, c.now)
		})
		if err != nil {
			return err
		}
	}
}

// due looks whether there is anything to do, which costs no flush.
func (b *Broker) due(ctx context.Context, now, deadline time.Time) (due bool, err error) {
	err = b.Store.View(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT
			EXISTS (SELECT 1 FROM mints WHERE state = 'pending' AND settle_by <= $2)
			OR EXISTS (SELECT 1 FROM mints WHERE forget_at <= $1 AND state <> 'pending')`, now.UnixMilli(), deadline.UnixMilli()).Scan(&due)
	})
	if err != nil {
		return false, fmt.Errorf("looking for mints to settle: %w", err)
	}
	return due, nil
}

func pending(ctx context.Context, tx *sql.Tx, deadline time.Time) ([]*mintRow, error) {
	rows, err := tx.QueryContext(ctx, "SELECT "+mintColumns+" FROM mints WHERE state = 'pending' AND settle_by <= $1 ORDER BY settle_by LIMIT $2",
		deadline.UnixMilli(), settleBatch)
	if err != nil {
		return nil, fmt.Errorf("looking for mints to settle: %w", err)
	}
	defer rows.Close()
	var found []*mintRow
	for rows.Next() {
		row, err := scanMint(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, row)
	}
	return found, rows.Err()
}

// settleRow gives an intent without an outcome the one that is certain: whatever
// there is at AWS was not released.
func (b *Broker) settleRow(ctx context.Context, tx *sql.Tx, c *call, row *mintRow) error {
	intent, err := audit.ByID(ctx, tx, row.recordID)
	if err != nil {
		return err
	}
	record := intent.Record
	record.ID, record.Time, record.RequestID = "", c.now, c.requestID
	record.Outcome, record.Reason, record.Settles = audit.Quarantined, string(api.CodeMintInterrupted), intent.ID
	sealed, err := b.seal(row, keptRefusal(errInterrupted()))
	if err != nil {
		return err
	}
	if ours, err := concludeRow(ctx, tx, row, audit.Quarantined, sealed); err != nil || !ours {
		return err
	}
	return c.append(ctx, tx, &record)
}

// forget deletes the calls whose window has ended, with their answers.
func forget(ctx context.Context, tx *sql.Tx, now time.Time) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM mints WHERE seq IN
		(SELECT seq FROM mints WHERE forget_at <= $1 AND state <> 'pending' LIMIT $2)`, now.UnixMilli(), settleBatch)
	if err != nil {
		return fmt.Errorf("forgetting calls: %w", err)
	}
	return nil
}
