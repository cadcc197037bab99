package federation

import (
	"context"
	"fmt"
)

// Incomplete is the error of an Apply that ended half-way. Making a new plan and
// applying it goes on where this one ended.
type Incomplete struct {
	Done   []Step
	Failed Step // not done, as far as could be seen
	Left   []Step
	Err    error
}

func (e *Incomplete) Error() string { return e.Err.Error() }

func (e *Incomplete) Unwrap() error { return e.Err }

// Apply carries a plan out, step by step, up to the first that fails: the error is
// an *Incomplete. The function progress, if any, is told of each step as it begins.
//
// A step that somebody else has carried out in the meantime is done. A document
// that somebody else has changed in the meantime stops it, as the plan would drop
// what it has not seen: each is read again right before it is written. AWS has no
// conditional write for them, so a change within that moment is lost.
func Apply(ctx context.Context, p *Plan, progress func(Step)) error {
	for i, s := range p.Steps {
		if progress != nil {
			progress(s)
		}
		if err := s.carryOut(ctx); err != nil {
			return &Incomplete{Done: p.Steps[:i], Failed: s, Left: p.Steps[i+1:], Err: err}
		}
	}
	return nil
}

func (s Step) carryOut(ctx context.Context) error {
	now, err := s.read(ctx)
	switch {
	case err != nil:
		return err
	case now == s.After:
		return nil
	case s.exact && now != s.Before:
		return fmt.Errorf("setting up AWS: the %s was changed after the plan was made", s.What)
	}
	err = s.do(ctx)
	if err == nil {
		return nil
	}
	// What is in force decides: the answer alone may have been lost, or another
	// Apply was first.
	if now, e := s.read(ctx); e == nil && now == s.After {
		return nil
	}
	return err
}
