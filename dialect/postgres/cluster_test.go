package postgres_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/lockstep-go/lockstep/internal/servers"
)

// node is a PostgreSQL server of this test's own.
type node struct {
	bin, dir string
	port     int
	server   *exec.Cmd
	log      bytes.Buffer
	ended    chan struct{}
}

// programs returns the folder of a PostgreSQL installation on this machine, where the servers for tests usually come
// from.
func programs(t *testing.T) string {
	t.Helper()
	servers.Postgres(t) // or the test is skipped, or fails, as the environment says
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		t.Skip("no PostgreSQL is installed below /usr/lib/postgresql: a standby cannot be started (scripts/services install postgres)")
	}
	return filepath.Dir(found[len(found)-1])
}

// newPrimary makes and starts a server whose data survives its own death, if not the machine's.
func newPrimary(t *testing.T) *node {
	t.Helper()
	n := newNode(t, programs(t))
	n.run(t, "initdb", "-D", n.dir, "-U", "lockstep", "-A", "trust", "--no-sync", "--no-instructions", "-E", "UTF8", "--locale=C.UTF-8")
	n.start(t)
	return n
}

// newStandby makes and starts a synchronous standby of primary, and waits until it is one.
func newStandby(t *testing.T, primary *node) *node {
	t.Helper()
	n := newNode(t, primary.bin)
	if err := os.Remove(n.dir); err != nil {
		t.Fatal(err)
	}
	n.run(t, "pg_basebackup", "-h", "127.0.0.1", "-p", strconv.Itoa(primary.port), "-U", "lockstep", "-D", n.dir,
		"-X", "stream", "-R", "--checkpoint=fast", "--no-sync")
	n.start(t)
	db := pool(t, primary.dsn())
	for _, statement := range []string{`ALTER SYSTEM SET synchronous_standby_names = '*'`, `SELECT pg_reload_conf()`} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the standby is synchronous", func() (ok bool, err error) {
		err = db.QueryRowContext(t.Context(), `SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'sync'`).Scan(&ok)
		return ok, err
	})
	return n
}

func newNode(t *testing.T, bin string) *node {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	// Not t.TempDir, which only this process's user may enter: the server has another one.
	parent, err := os.MkdirTemp("", "lockstep-node-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	n := &node{bin: bin, dir: filepath.Join(parent, "data"), port: listener.Addr().(*net.TCPAddr).Port}
	if err := errors.Join(os.Mkdir(n.dir, 0o700), os.Chmod(parent, 0o755)); err != nil {
		t.Fatal(err)
	}
	if who := owner(t); who != nil {
		err := errors.Join(os.Chown(parent, int(who.Uid), int(who.Gid)), os.Chown(n.dir, int(who.Uid), int(who.Gid)))
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// owner is the user that a server runs as: not root, which it refuses.
func owner(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (n *node) command(ctx context.Context, t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, filepath.Join(n.bin, program), args...)
	cmd.Dir = filepath.Dir(n.dir)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner(t), Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (n *node) run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := n.command(t.Context(), t, program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", program, err, out)
	}
}

func (n *node) start(t *testing.T) {
	t.Helper()
	n.server = n.command(context.Background(), t, "postgres", "-D", n.dir, "-p", strconv.Itoa(n.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=100", "-c", "wal_keep_size=512MB")
	n.server.Stdout, n.server.Stderr = &n.log, &n.log
	if err := n.server.Start(); err != nil {
		t.Fatal(err)
	}
	n.ended = make(chan struct{})
	go func() {
		defer close(n.ended)
		_ = n.server.Wait()
	}()
	t.Cleanup(n.kill)
	db := pool(t, n.dsn())
	eventually(t, "the server answers", func() (bool, error) {
		select {
		case <-n.ended:
			return false, fmt.Errorf("it ended: %s", n.log.String())
		default:
			return db.PingContext(t.Context()) == nil, nil
		}
	})
}

// kill ends the server with all its processes, at one moment, as the death of its machine does.
func (n *node) kill() {
	pids := []int{n.server.Process.Pid}
	_ = syscall.Kill(pids[0], syscall.SIGSTOP)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		content, _ := os.ReadFile(stat)
		_, fields, _ := strings.Cut(string(content), ") ") // the state, the parent, …
		if f := strings.Fields(fields); len(f) > 1 && f[1] == strconv.Itoa(pids[0]) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat))); err == nil {
				_ = syscall.Kill(pid, syscall.SIGSTOP)
				pids = append(pids, pid)
			}
		}
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-n.ended
}

func (n *node) dsn() string {
	return fmt.Sprintf("postgres://lockstep@127.0.0.1:%d/postgres?sslmode=disable", n.port)
}

// either is the address of whichever of the nodes can be written to.
func either(nodes ...*node) string {
	var hosts, ports []string
	for _, n := range nodes {
		hosts, ports = append(hosts, "127.0.0.1"), append(ports, strconv.Itoa(n.port))
	}
	return "host=" + strings.Join(hosts, ",") + " port=" + strings.Join(ports, ",") +
		" user=lockstep dbname=postgres sslmode=disable target_session_attrs=read-write connect_timeout=2"
}

// ids reads a column of texts.
func ids(t *testing.T, db *sql.DB, query string) map[string]bool {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	found := map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		found[id] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}
