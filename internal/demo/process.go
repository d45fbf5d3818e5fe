package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// errKilled: the process ended by a kill that was not ours.
var errKilled = errors.New("the process was killed")

// process is a running child.
type process struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
}

// newProcess prepares this program to run as a child until ctx is done.
func newProcess(ctx context.Context, config childConfig) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program's file: %w", err)
	}
	encoded, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.CommandContext(ctx, program)}
	p.cmd.Env = append(os.Environ(), ChildEnv+"="+string(encoded))
	p.cmd.Stderr = &p.stderr
	p.cmd.WaitDelay = 5 * time.Second
	return p, nil
}

// wait returns nil when the child ended well, errKilled when it was killed, and otherwise what it complained about.
func (p *process) wait() error {
	err := p.cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return err
	case exit.ExitCode() == -1, runtime.GOOS == "windows" && exit.ExitCode() == 1: // -1 stands for a signal
		return errKilled
	}
	return fmt.Errorf("%w: %s", err, strings.TrimSpace(p.stderr.String()))
}

// serviceProcess is a service that is started again whenever it was killed. For one goroutine.
type serviceProcess struct {
	config childConfig
	kills  int

	running *process // nil when it is not
	stdin   io.WriteCloser
	replies *json.Decoder
}

func (s *serviceProcess) start(ctx context.Context) error {
	p, err := newProcess(ctx, s.config)
	if err != nil {
		return err
	}
	if s.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start service: %w", err)
	}
	s.running, s.replies = p, json.NewDecoder(stdout)
	return nil
}

// ask sends a request. The error is errKilled when the service died of it.
func (s *serviceProcess) ask(ctx context.Context, r request) (reply, error) {
	if s.running == nil {
		if err := s.start(ctx); err != nil {
			return reply{}, err
		}
	}
	if err := json.NewEncoder(s.stdin).Encode(r); err != nil {
		return reply{}, errors.Join(fmt.Errorf("ask service: %w", err), s.stop())
	}
	var answer reply
	err := s.replies.Decode(&answer)
	if err == nil {
		return answer, nil
	}
	if ended := s.stop(); ended != nil {
		return reply{}, ended
	}
	return reply{}, fmt.Errorf("read the service's answer: %w", err)
}

// stop ends the service and waits for it.
func (s *serviceProcess) stop() error {
	if s.running == nil {
		return nil
	}
	s.stdin.Close()
	err := s.running.wait()
	s.running = nil
	if errors.Is(err, errKilled) {
		s.kills++
	}
	return err
}

// relayProcess is a relay that is started again whenever it was killed.
type relayProcess struct {
	stdin *os.File   // of all its incarnations; closing it makes the last one drain and end
	ended chan error // receives once
	kills int        // to be read after ended
}

// startRelay calls failed when the relay ends otherwise than by a kill or by stop.
func startRelay(ctx context.Context, config childConfig, failed func(error)) (*relayProcess, error) {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start relay: %w", err)
	}
	r := &relayProcess{stdin: ours, ended: make(chan error, 1)}
	go func() { // stop waits for it
		defer theirs.Close()
		err := r.keepRunning(ctx, config, theirs)
		if err != nil {
			failed(err)
		}
		r.ended <- err
	}()
	return r, nil
}

func (r *relayProcess) keepRunning(ctx context.Context, config childConfig, stdin *os.File) error {
	for {
		p, err := newProcess(ctx, config)
		if err != nil {
			return err
		}
		p.cmd.Stdin = stdin
		if err := p.cmd.Start(); err != nil {
			return fmt.Errorf("start relay: %w", err)
		}
		err = p.wait()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errKilled):
			r.kills++
		case err != nil:
			return fmt.Errorf("relay: %w", err)
		default:
			return nil
		}
	}
}

// stop lets the relay carry what is left, and waits for its end.
func (r *relayProcess) stop() error {
	r.stdin.Close()
	return <-r.ended
}
