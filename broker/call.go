package broker

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"agentkeys/api"
)

// call is one request as the handlers see it. It takes one reading of the
// clock, which serves for claims, rows and records alike.
type call struct {
	w         *statusWriter
	r         *http.Request
	ctx       context.Context
	now       time.Time
	requestID string
	source    string      // address of the client
	log       []slog.Attr // what the handler adds to the line of the request

	place int64 // of the last record that the transaction under way, or the last one, appended; 0 for none
	paid  bool  // a budget was taken from in a transaction, which may run twice
	// admitted is the refusal that a transaction decided, and whether it has a record of
	// its own; nil for none.
	admitted *admission
}

// note adds to the request's log line. Tokens, signatures and nonces never go
// there; a token is named by its jti.
func (c *call) note(key, value string) { c.log = append(c.log, slog.String(key, value)) }

// adapt turns a handler that returns an error into an http.Handler: it gives
// the request its id and its deadline, writes the error as a problem document,
// logs one line and counts.
func (b *Broker) adapt(name string, serve func(*Broker, *call) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		c := &call{
			w:         &statusWriter{ResponseWriter: w},
			r:         r,
			ctx:       ctx,
			now:       b.Now(),
			requestID: requestID(r),
			source:    b.source(r),
		}
		w.Header().Set("X-Request-Id", c.requestID)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		defer func() { b.finish(c, name, time.Since(start), recover()) }()
		if err := serve(b, c); err != nil {
			b.writeError(c, err)
		}
	})
}

// finish writes the log line and the metrics of a request. A panic becomes a
// 500 here; its text goes to the log alone.
func (b *Broker) finish(c *call, name string, took time.Duration, panicked any) {
	if panicked != nil {
		b.Log.Error("panic", "request_id", c.requestID, "panic", fmt.Sprint(panicked), "stack", string(debug.Stack()))
		if c.w.status == 0 {
			b.writeError(c, api.Errorf(api.CodeInternal, "see the log"))
		}
	}
	b.metrics.observe(name, c.w.status, took)
	level := slog.LevelInfo
	if c.w.status >= http.StatusInternalServerError {
		level = slog.LevelWarn // for the operator to look at
	}
	if !b.Log.Enabled(c.ctx, level) {
		return
	}
	attrs := append([]slog.Attr{
		slog.String("request_id", c.requestID),
		slog.String("method", c.r.Method),
		slog.String("path", c.r.URL.Path),
		slog.Int("status", c.w.status),
		slog.Duration("took", took),
		slog.String("source", c.source),
	}, c.log...)
	if trace := traceID(c.r); trace != "" {
		attrs = append(attrs, slog.String("trace_id", trace))
	}
	b.Log.LogAttrs(c.ctx, level, "request", attrs...)
}

// statusWriter remembers the status that was written.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// writeJSON answers 200.
func (c *call) writeJSON(body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	c.writeBody(data)
	return nil
}

// writeBody answers 200 with a body of JSON. One that holds a token must not be kept
// by any cache, and none of ours is worth keeping, so none may be.
func (c *call) writeBody(data []byte) {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Cache-Control", "no-store")
	_, _ = c.w.Write(append(data, '\n')) // a client that went away is no error of ours
}

// requestID keeps the caller's id when it is a token of RFC 9110, section
// 5.6.2, of at most 64 characters, and makes one otherwise.
func requestID(r *http.Request) string {
	if ids := r.Header.Values("X-Request-Id"); len(ids) == 1 && len(ids[0]) <= 64 && isToken(ids[0]) {
		return ids[0]
	}
	return rand.Text()
}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		letterOrDigit := r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		return !letterOrDigit && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// traceID takes the trace id out of a W3C traceparent header, or nothing where
// the header is not well formed.
func traceID(r *http.Request) string {
	parts := strings.Split(r.Header.Get("Traceparent"), "-")
	if len(parts) < 4 || len(parts[0]) != 2 || len(parts[1]) != 32 || len(parts[2]) != 16 {
		return ""
	}
	notHex := func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }
	if strings.ContainsFunc(parts[1], notHex) || strings.Trim(parts[1], "0") == "" {
		return ""
	}
	return parts[1]
}

// source is the address of the client: that of the connection, or, when a
// trusted proxy made the connection, the last one in X-Forwarded-For that is
// not a trusted proxy itself.
func (b *Broker) source(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "unknown"
	}
	addr := peer.Addr().Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && b.trusted(addr); i-- {
		hop, err := parseHop(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = hop
	}
	return addr.String()
}

// parseHop reads an address with or without a port.
func parseHop(hop string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(hop)
	if err != nil {
		var withPort netip.AddrPort
		withPort, err = netip.ParseAddrPort(hop)
		addr = withPort.Addr()
	}
	return addr.Unmap().WithZone(""), err
}

func (b *Broker) trusted(addr netip.Addr) bool {
	return slices.ContainsFunc(b.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}
