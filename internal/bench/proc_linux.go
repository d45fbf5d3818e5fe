package bench

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// ticksPerSecond is USER_HZ, which is 100 on every architecture that Go runs on.
const ticksPerSecond = 100

// ownCPU is this process's CPU seconds.
func ownCPU() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// peakMemory is the largest resident set that this process has had. The one in rusage would be that of its parent, if
// that was larger before the child was a program of its own.
func peakMemory() int64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if rest, found := strings.CutPrefix(lines.Text(), "VmHWM:"); found {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n << 10
		}
	}
	return 0
}

// treeCPU is the CPU seconds of a process and its descendants, those that have ended included; -1 where it cannot be known.
func treeCPU(root int) float64 {
	if root == 0 {
		return -1
	}
	children := map[int][]int{}
	used := map[int]float64{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, path := range stats {
		if pid, parent, ticks, ok := readStat(path); ok {
			children[parent] = append(children[parent], pid)
			used[pid] = ticks
		}
	}
	if _, alive := used[root]; !alive {
		return -1
	}
	total := 0.0
	for family := []int{root}; len(family) > 0; family = append(family[1:], children[family[0]]...) {
		total += used[family[0]]
	}
	return total / ticksPerSecond
}

func readStat(path string) (pid, parent int, ticks float64, ok bool) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, 0, false // it ended
	}
	before, after, found := strings.Cut(string(content), " (")
	after = after[strings.LastIndex(after, ")")+1:] // a program's name may have any character
	fields := strings.Fields(after)
	if !found || len(fields) < 15 {
		return 0, 0, 0, false
	}
	pid, _ = strconv.Atoi(before)
	parent, _ = strconv.Atoi(fields[1])
	for _, f := range fields[11:15] { // user and system time, its own and that of children that ended
		n, _ := strconv.ParseFloat(f, 64)
		ticks += n
	}
	return pid, parent, ticks, true
}

// serverOf returns the process that listens on a port of this machine, or 0: on another machine, or of another user.
func serverOf(address string) int {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return 0
	}
	inodes := append(listening("/proc/net/tcp", port), listening("/proc/net/tcp6", port)...)
	if len(inodes) == 0 {
		return 0
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	owner := 0
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !slices.Contains(inodes, target) {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
		if owner == 0 || pid < owner { // the parent, where children have inherited it
			owner = pid
		}
	}
	return owner
}

// listening returns the sockets of a table that listen on port, as /proc/PID/fd names them.
func listening(table, port string) (sockets []string) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil
	}
	want := ":" + strings.ToUpper(hex.EncodeToString([]byte{byte(n >> 8), byte(n)})) //nolint:gosec // 16 bits, byte by byte
	f, err := os.Open(table)
	if err != nil {
		return nil
	}
	defer f.Close()
	const local, state, inode, listen = 1, 3, 9, "0A"
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > inode && fields[state] == listen && strings.HasSuffix(fields[local], want) {
			sockets = append(sockets, fmt.Sprintf("socket:[%s]", fields[inode]))
		}
	}
	return sockets
}

// processor is the model's name.
func processor() string {
	content, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(content)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
