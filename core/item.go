package core

// orderKey is what messages are ordered by. In a message without a key, and only there, position makes it unique: such
// a message is ordered with no other.
type orderKey struct {
	topic, key string
	position   int64
}

func keyOf(r *Record) orderKey {
	if r.Message.Key == "" {
		return orderKey{topic: r.Message.Topic, position: r.Position}
	}
	return orderKey{topic: r.Message.Topic, key: r.Message.Key}
}

// item is a record in flight: dispatched, and not known to have left the outbox.
type item struct {
	record Record
	key    orderKey
	lane   *lane
	queue  *keyQueue // that it was taken from, while it is in a batch's call, or in a call that it began alone
	bytes  int
	// alone says that the message travels in a call of its own, because an earlier call with it failed.
	alone bool
	// apart says that it counts among those that wait aside: because it travels alone, or behind one that does.
	apart bool
	// failedAt is the number of the latest call that had begun when this message last failed without a verdict of its
	// own; 0: it has not.
	failedAt int64
}

func bytesOf(r *Record) int {
	n := len(r.Message.ID) + len(r.Message.Topic) + len(r.Message.Key) + len(r.Message.Payload)
	for name, value := range r.Message.Headers {
		n += len(name) + len(value)
	}
	return n
}
