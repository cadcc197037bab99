package broker

import (
	"sync/atomic"
	"time"

	"agentkeys/api"
)

// ClockLeeway is how far the clock may step back without anybody being told:
// more than time synchronisation does, less than any lifetime that we hand out.
const ClockLeeway = 30 * time.Second

// clock remembers the latest time that was seen. A clock that steps back makes
// used challenges and ended sessions look young again, so the broker neither
// signs in nor mints until the clock has caught up.
type clock struct {
	latest atomic.Int64 // Unix nanoseconds
}

// check notes the time and refuses one that lies before what was seen already.
func (k *clock) check(now time.Time) error {
	n := now.UnixNano()
	for {
		latest := k.latest.Load()
		if n <= latest {
			behind := time.Duration(latest - n)
			if behind <= ClockLeeway {
				return nil
			}
			return api.Errorf(api.CodeClockBackwards, "the clock says %s, but it was %s before",
				now.UTC().Format(time.RFC3339), time.Unix(0, latest).UTC().Format(time.RFC3339))
		}
		if k.latest.CompareAndSwap(latest, n) {
			return nil
		}
	}
}
