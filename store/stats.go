package store

import "sync"

// Stats counts what Update has done since Open.
type Stats struct {
	Updates      int64 // updates that were made durable
	Commits      int64 // commits that made them so, each one flush to disk
	LargestBatch int64 // the most updates that shared a commit
}

// Stats returns the counts so far, all of the same moment.
func (s *Store) Stats() Stats {
	if s.writer == nil {
		return Stats{}
	}
	return s.writer.stats.read()
}

type stats struct {
	mu sync.Mutex // guards s
	s  Stats
}

func (c *stats) committed(updates int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s.Commits++
	c.s.Updates += int64(updates)
	c.s.LargestBatch = max(c.s.LargestBatch, int64(updates))
}

func (c *stats) read() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.s
}
