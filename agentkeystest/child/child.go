// Package child has a test binary run again as another process in a role: for tests
// that need one to kill, to limit, or to hold a lock. It is for tests alone, and knows
// nothing of our other packages, so that their inner tests can use it.
package child

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// roleVariable names the role in the environment of the other process.
const roleVariable = "AGENTKEYS_TEST_ROLE"

// Main is what TestMain does. Here it runs the tests, which may leave no goroutine
// behind; in the other process it plays the role and prints the error that came of it.
func Main(m *testing.M, roles map[string]func(args []string) error) {
	name := os.Getenv(roleVariable)
	if name == "" {
		goleak.VerifyTestMain(m)
		return
	}
	role, known := roles[name]
	if !known {
		fmt.Printf("error: no role %q\n", name)
		os.Exit(1)
	}
	if err := role(os.Args[1:]); err != nil {
		fmt.Println("error:", err)
	}
	os.Exit(0)
}

// Command is the command that plays a role of Main in another process.
func Command(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// Output runs a command and returns what it printed.
func Output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return string(out)
}

// KillAfter lets a command that ends by itself never print so many lines, kills it,
// and returns all whole lines that it printed. A line with an error fails the test.
func KillAfter(t *testing.T, cmd *exec.Cmd, lines int) []string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var text []byte
	buf := make([]byte, 4096)
	for killed := false; ; {
		n, err := r.Read(buf)
		if text = append(text, buf[:n]...); err != nil {
			break
		}
		if !killed && strings.Count(string(text), "\n") >= lines {
			killed = true
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Errorf("the process ended by itself: %s", text)
	}
	if strings.Contains(string(text), "error:") {
		t.Errorf("the process failed before the kill: %s", text)
	}
	all := strings.Split(string(text), "\n")
	return all[:len(all)-1] // what follows the last line break was cut off
}
