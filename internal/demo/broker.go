package demo

import (
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
)

// event is a message as it travels to the broker and stands in its log.
type event struct {
	ID      string `json:"id"`
	Key     string `json:"key"`
	Payload []byte `json:"payload"`
}

// memoryBroker keeps a log for each topic, in memory, and takes messages over HTTP on the loopback interface. Safe for
// concurrent use.
type memoryBroker struct {
	url    string
	server *http.Server
	served sync.WaitGroup

	mu          sync.Mutex
	logs        map[string][]event
	refused     chan struct{}            // not nil while the broker is away; closed by the first refusal
	lostAnswers map[string]chan struct{} // by key: answers that are to be lost
}

func startBroker() (*memoryBroker, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &memoryBroker{
		url:         "http://" + listener.Addr().String(),
		logs:        map[string][]event{},
		lostAnswers: map[string]chan struct{}{},
	}
	routes := http.NewServeMux()
	routes.HandleFunc("POST /topics/{topic}", b.receive)
	b.server = &http.Server{Handler: routes, ErrorLog: log.New(io.Discard, "", 0)}
	b.served.Go(func() { _ = b.server.Serve(&door{listener, b}) }) // ends by stop
	return b, nil
}

func (b *memoryBroker) stop() {
	b.server.Close()
	b.served.Wait()
}

// goAway makes the broker refuse everything until comeBack. The channel is closed once it has refused something.
func (b *memoryBroker) goAway() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused = make(chan struct{})
	return b.refused
}

func (b *memoryBroker) comeBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused = nil
}

// loseAnswer makes the broker store the next event of key and close the connection instead of answering. The channel
// is closed once that happened.
func (b *memoryBroker) loseAnswer(key string) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lostAnswers[key] = make(chan struct{})
	return b.lostAnswers[key]
}

// log returns what the broker has stored, oldest first.
func (b *memoryBroker) log(topic string) []event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.logs[topic]
}

// refuses reports whether the broker is away, and notes that somebody asked.
func (b *memoryBroker) refuses() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refused == nil {
		return false
	}
	select {
	case <-b.refused:
	default:
		close(b.refused)
	}
	return true
}

// store appends e, and reports whether its answer may be given.
func (b *memoryBroker) store(topic string, e event) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logs[topic] = append(b.logs[topic], e)
	lost, ok := b.lostAnswers[e.Key]
	if ok {
		delete(b.lostAnswers, e.Key)
		close(lost)
	}
	return !ok
}

func (b *memoryBroker) receive(w http.ResponseWriter, r *http.Request) {
	if b.refuses() {
		panic(http.ErrAbortHandler) // net/http's way to close the connection without an answer
	}
	var e event
	if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !b.store(r.PathValue("topic"), e) {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(http.StatusNoContent)
}

// door resets new connections while the broker is away.
type door struct {
	net.Listener
	broker *memoryBroker
}

func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil || !d.broker.refuses() {
			return conn, err
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0) // close with a reset
		}
		conn.Close()
	}
}
