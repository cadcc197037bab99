package audit

import (
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// A climb builds a tree from its leaves, in order, and holds no more of it than the
// roots of its perfect subtrees: one for each bit of its size.
type climb struct {
	size  int64
	peaks [64]Digest // by height; those whose bit of size is set
}

// add gives a leaf the next place. Each subtree whose height is a multiple of that of
// a tile goes to made when it is whole: the n-th of its level, where level 0 is the
// leaf itself.
func (c *climb) add(leaf Digest, made func(level int, n int64, root Digest)) {
	height, root := 0, leaf
	for n := c.size; n&1 == 1; n >>= 1 {
		root = Digest(tlog.NodeHash(tlog.Hash(c.peaks[height]), tlog.Hash(root)))
		height++
		if height%tileHeight == 0 && made != nil {
			made(height/tileHeight, n>>1, root)
		}
	}
	c.peaks[height] = root
	c.size++
}

// root is the hash of the tree so far.
func (c *climb) root() Digest {
	if c.size == 0 {
		empty, _ := tlog.TreeHash(0, nil) // the hash of the empty tree; it cannot fail
		return Digest(empty)
	}
	height := bits.TrailingZeros64(uint64(c.size))
	root := c.peaks[height]
	for height++; c.size>>height > 0; height++ {
		if c.size>>height&1 == 1 {
			root = Digest(tlog.NodeHash(tlog.Hash(c.peaks[height]), tlog.Hash(root)))
		}
	}
	return root
}
