package servers_test

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// A server that was told to stop goes on until the system gets round to it. Whoever publishes to it then gets an answer.
func TestARunningServerDoesNotStandStill(t *testing.T) {
	const threads, looks = 100, 20 // as many as Kafka has
	var running sync.WaitGroup
	defer running.Wait()
	end := make(chan struct{})
	defer close(end)
	var begun sync.WaitGroup
	for range threads {
		begun.Add(1)
		running.Go(func() {
			runtime.LockOSThread()
			begun.Done()
			<-end
		})
	}
	begun.Wait()
	still := func(pid int) bool {
		t.Helper()
		const script = "set -uo pipefail; . ../../scripts/services.d/process.sh; if still $1; then echo still; else echo running; fi"
		out, err := exec.CommandContext(t.Context(), "bash", "-c", script, "bash", strconv.Itoa(pid)).CombinedOutput()
		if err != nil || string(out) != "still\n" && string(out) != "running\n" {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out) == "still\n"
	}
	for look := range looks {
		if still(os.Getpid()) {
			t.Fatalf("look %d: a process with %d threads that run is said to stand still", look, threads)
		}
	}
	stopped := exec.CommandContext(t.Context(), "bash", "-c", "kill -STOP $$")
	if err := stopped.Start(); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(stopped.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("wait for it to stop: %v, status %v", err, status)
	}
	if !still(stopped.Process.Pid) {
		t.Error("a stopped process is said to run")
	}
	if err := stopped.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	stopped.Wait() // it was killed
}
