package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// An edge is the right edge of a tree: at each level the last tile, as far as it is
// filled.
type edge struct {
	size  int64
	tiles [][]tlog.Hash // by level, each shorter than tileWidth
}

// save is what keeps a tile.
type save func(level int, n int64, hashes []tlog.Hash) error

// add gives a leaf the next place. A tile that is full goes to save, and its root to
// the tile above it.
func (e *edge) add(leaf tlog.Hash, full save) error {
	e.size++
	for level, h := 0, leaf; ; level++ {
		if level == len(e.tiles) {
			e.tiles = append(e.tiles, make([]tlog.Hash, 0, tileWidth))
		}
		e.tiles[level] = append(e.tiles[level], h)
		if len(e.tiles[level]) < tileWidth {
			return nil
		}
		if err := full(level, e.size>>(tileHeight*(level+1))-1, e.tiles[level]); err != nil {
			return err
		}
		h = perfect(e.tiles[level])
		e.tiles[level] = e.tiles[level][:0]
	}
}

// flush gives the tiles that are not full.
func (e *edge) flush(to save) error {
	for level, tile := range e.tiles {
		if len(tile) == 0 {
			continue
		}
		if err := to(level, e.size>>(tileHeight*(level+1)), tile); err != nil {
			return err
		}
	}
	return nil
}

// root is the hash of the whole tree (RFC 6962, section 2.1): the perfect subtrees
// from the smallest, which is the last, to the largest.
func (e *edge) root() Digest {
	var root tlog.Hash
	some := false
	for _, tile := range e.tiles {
		for rest := tile; len(rest) > 0; {
			last := len(rest) & -len(rest)
			h := perfect(rest[len(rest)-last:])
			if some {
				h = tlog.NodeHash(h, root)
			}
			root, some, rest = h, true, rest[:len(rest)-last]
		}
	}
	if !some {
		root, _ = tlog.TreeHash(0, nil) // the hash of the empty tree; it cannot fail
	}
	return Digest(root)
}

// perfect is the root of a tree whose leaves are a power of two.
func perfect(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := len(hashes) / 2
	return tlog.NodeHash(perfect(hashes[:half]), perfect(hashes[half:]))
}

// loadEdge reads the right edge of the tree of that size.
func loadEdge(ctx context.Context, tx *sql.Tx, size int64) (*edge, error) {
	e := &edge{size: size}
	for level := 0; size>>(tileHeight*level) > 0; level++ {
		entries := size >> (tileHeight * level)
		width := int(entries % tileWidth)
		tile := make([]tlog.Hash, 0, tileWidth)
		if width > 0 {
			data, err := readTile(ctx, tx, level, entries/tileWidth, width)
			if err != nil {
				return nil, err
			}
			tile = appendHashes(tile, data)
		}
		e.tiles = append(e.tiles, tile)
	}
	return e, nil
}

func appendHashes(tile []tlog.Hash, data []byte) []tlog.Hash {
	for i := 0; i < len(data); i += tlog.HashSize {
		tile = append(tile, tlog.Hash(data[i:]))
	}
	return tile
}

// readTile gives the first width hashes of a tile.
func readTile(ctx context.Context, tx *sql.Tx, level int, n int64, width int) ([]byte, error) {
	var data []byte
	err := tx.QueryRowContext(ctx, "SELECT hashes FROM audit_tiles WHERE level = $1 AND n = $2", level, n).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, brokenf("tile %d of level %d is missing", n, level)
	}
	if err != nil {
		return nil, fmt.Errorf("reading tile %d of level %d: %w", n, level, err)
	}
	if len(data) < width*tlog.HashSize {
		return nil, brokenf("tile %d of level %d: want %d hashes, got %d bytes", n, level, width, len(data))
	}
	return data[:width*tlog.HashSize], nil
}

// saveTile is the save of a transaction.
func saveTile(ctx context.Context, tx *sql.Tx) save {
	return func(level int, n int64, hashes []tlog.Hash) error {
		data := make([]byte, 0, len(hashes)*tlog.HashSize)
		for i := range hashes {
			data = append(data, hashes[i][:]...)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO audit_tiles (level, n, hashes) VALUES ($1, $2, $3)
			ON CONFLICT (level, n) DO UPDATE SET hashes = excluded.hashes`, level, n, data)
		if err != nil {
			return fmt.Errorf("keeping tile %d of level %d: %w", n, level, err)
		}
		return nil
	}
}

// tiles reads tiles for tlog, which holds each against the root before it believes
// anything in it.
type tiles struct {
	ctx context.Context
	tx  *sql.Tx
}

func (t tiles) Height() int { return tileHeight }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var read [][]byte
	for _, w := range wanted {
		data, err := readTile(t.ctx, t.tx, w.L, w.N, w.W)
		if err != nil {
			return nil, err
		}
		read = append(read, data)
	}
	return read, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {} // they are where they came from

// hashes gives the hashes of the tree of a checkpoint.
func hashes(ctx context.Context, tx *sql.Tx, c Checkpoint) tlog.HashReader {
	return tlog.TileHashReader(c.tree(), tiles{ctx, tx})
}
