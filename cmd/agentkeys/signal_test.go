package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"agentkeys/api"
)

// underWay is a request that the broker is answering, and whose body has not come yet.
type underWay struct {
	net.Conn
	answer *bufio.Reader
}

const startBody = `{"address":"` + aliceWallet + `","chain_id":1}`

// startRequest has the broker ask for the body of a request, which shows that it is at it
// (RFC 9110, section 10.1.1).
func (h *host) startRequest(t *testing.T) underWay {
	t.Helper()
	conn, err := net.Dial("tcp", h.bind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	header := "POST " + api.PathWalletStart + " HTTP/1.1\r\nHost: " + h.bind + "\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n" +
		"Content-Length: " + strconv.Itoa(len(startBody)) + "\r\n\r\n"
	if _, err := io.WriteString(conn, header); err != nil {
		t.Fatal(err)
	}
	u := underWay{conn, bufio.NewReader(conn)}
	if line, err := u.answer.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("want 100 Continue, got %q, %v", line, err)
	}
	if _, err := u.answer.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return u
}

// finish sends the body, and wants the whole answer.
func (u underWay) finish() error {
	if _, err := io.WriteString(u, startBody); err != nil {
		return err
	}
	answer, err := http.ReadResponse(u.answer, nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(answer.Body)
	if err == nil && (answer.StatusCode != http.StatusOK || !strings.Contains(string(body), "siwe_message")) {
		err = errors.New("want 200 and a message to sign, got " + answer.Status)
	}
	return errors.Join(err, answer.Body.Close())
}

func (s *served) terminate(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// untilClosed waits until nobody can begin a request any more: the first signal has come.
func (h *host) untilClosed(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		conn, err := net.Dial("tcp", h.bind)
		if err != nil {
			return
		}
		_ = conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("the broker still listens a minute after SIGTERM")
		}
	}
}

// Many SIGTERMs within microseconds are one: a request that is under way is answered to
// its end, and the broker ends in order.
func TestSignalsAtOnceCutNoRequest(t *testing.T) {
	h := newHost(t, build(t))
	s := h.serve(t, "BROKER_SHUTDOWN_SECONDS=60")
	request := h.startRequest(t)
	s.terminate(t)
	s.terminate(t)
	h.untilClosed(t)
	for range 20 {
		s.terminate(t)
	}
	if err := request.finish(); err != nil {
		t.Errorf("the request that was under way: %v", err)
	}
	if err := <-s.ended; err != nil {
		t.Errorf("the broker ended with %v\n%s", err, s.log)
	}
	if !strings.Contains(s.log.String(), `"msg":"stopped"`) {
		t.Errorf("it did not end in order:\n%s", s.log)
	}
	s.ended <- nil
}

// A person whose SIGTERM has not ended it sends another one, and that does, whatever is
// under way.
func TestLaterSignalEndsAtOnce(t *testing.T) {
	h := newHost(t, build(t))
	s := h.serve(t, "BROKER_SHUTDOWN_SECONDS=300")
	h.startRequest(t)
	s.terminate(t)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(time.Minute)
	for {
		select {
		case err := <-s.ended:
			s.ended <- err
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
				t.Errorf("want it ended by SIGTERM, got %v\n%s", err, s.log)
			}
			return
		case <-again.C:
			_ = s.cmd.Process.Signal(syscall.SIGTERM) // which may have ended meanwhile
		case <-deadline:
			t.Fatalf("it ignores SIGTERM for a minute\n%s", s.log)
		}
	}
}
