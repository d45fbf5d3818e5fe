package watermill

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"runtime"

	"github.com/ThreeDotsLabs/watermill/message"
)

// inspect looks for publishers that it knows, in publisher and in what that wraps. The error names every setting with
// which one of them loses messages or their order, and what to set instead. closings are channels that a publisher
// closes before it stops to wait for whom it delivers to.
//
// The settings are read by reflection from private fields. The publishers keep them to themselves, they are made before
// we see them, and importing their modules would bring Kafka and RabbitMQ clients to everybody. Nothing is called and
// nothing is changed. What is not found is taken to be safe.
func inspect(publisher message.Publisher) (closings []<-chan struct{}, err error) {
	v := reflect.ValueOf(publisher)
	if !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, errors.New("the publisher is nil")
	}
	i := inspection{seen: map[seen]bool{}}
	i.look(v)
	return i.closings, errors.Join(i.faults...)
}

// inspection is what was found so far.
type inspection struct {
	seen     map[seen]bool
	faults   []error
	closings []<-chan struct{}
}

// seen names what a pointer refers to, so that a ring of publishers has an end.
type seen struct {
	what  reflect.Type
	where uintptr
}

// known are the publishers whose settings are known, by their type.
var known = []struct {
	name  *regexp.Regexp
	check func(i *inspection, publisher reflect.Value)
}{
	{regexp.MustCompile(`^github\.com/ThreeDotsLabs/watermill-kafka(/v\d+)?/pkg/kafka\.Publisher$`), (*inspection).kafka},
	{regexp.MustCompile(`^github\.com/ThreeDotsLabs/watermill-amqp(/v\d+)?/pkg/amqp\.Publisher$`), (*inspection).amqp},
	{regexp.MustCompile(`^github\.com/ThreeDotsLabs/watermill(/v\d+)?/pubsub/gochannel\.GoChannel$`), (*inspection).gochannel},
}

var publisherType = reflect.TypeFor[message.Publisher]()

// look checks v where it is a publisher that is known, and otherwise looks at the publishers in its fields.
func (i *inspection) look(v reflect.Value) {
	for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		if v.Kind() == reflect.Pointer {
			at := seen{v.Type(), v.Pointer()}
			if i.seen[at] {
				return
			}
			i.seen[at] = true
		}
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return
	}
	for _, k := range known {
		if k.name.MatchString(nameOf(v.Type())) {
			k.check(i, v)
			return
		}
	}
	for n := range v.NumField() {
		if t := v.Field(n).Type(); t.Implements(publisherType) || reflect.PointerTo(t).Implements(publisherType) {
			i.look(v.Field(n))
		}
	}
}

func (i *inspection) fault(format string, args ...any) {
	i.faults = append(i.faults, fmt.Errorf(format, args...))
}

// kafka checks a watermill-kafka publisher.
func (i *inspection) kafka(publisher reflect.Value) {
	producer := field(publisher, "config", "OverwriteSaramaConfig", "Producer")
	const all = -1 // sarama.WaitForAll
	if acks := field(producer, "RequiredAcks"); acks.CanInt() && acks.Int() != all {
		i.fault("watermill-kafka: RequiredAcks is %d, with which a failing Kafka broker loses messages that it confirmed: "+
			"set OverwriteSaramaConfig to a configuration with Producer.RequiredAcks = sarama.WaitForAll", acks.Int())
	}
	marshaler := field(publisher, "config", "Marshaler")
	for marshaler.Kind() == reflect.Interface || marshaler.Kind() == reflect.Pointer {
		marshaler = marshaler.Elem()
	}
	if marshaler.IsValid() && nameOf(marshaler.Type()) == publisher.Type().PkgPath()+".DefaultMarshaler" {
		i.fault("watermill-kafka: Marshaler is DefaultMarshaler, which gives records no key, so that the events of a key lose their order: " +
			"set Marshaler to kafka.NewWithPartitioningMarshaler(watermill.PartitionKey)")
	}
	if partitioner := field(producer, "Partitioner"); partitioner.Kind() == reflect.Func && !partitioner.IsNil() {
		switch name := runtime.FuncForPC(partitioner.Pointer()).Name(); name {
		case "github.com/IBM/sarama.NewRandomPartitioner", "github.com/IBM/sarama.NewRoundRobinPartitioner":
			i.fault("watermill-kafka: Producer.Partitioner is %s, which scatters the events of a key, so that they lose their order: "+
				"set it to sarama.NewHashPartitioner", name)
		}
	}
}

// amqp checks a watermill-amqp publisher.
func (i *inspection) amqp(publisher reflect.Value) {
	publish := field(publisher, "config", "Publish")
	if is(field(publish, "ConfirmDelivery"), false) {
		i.fault("watermill-amqp: ConfirmDelivery is not set, and without it Publish returns before RabbitMQ has the message: " +
			"set Config.Publish.ConfirmDelivery")
	}
	if is(field(publish, "Transactional"), true) {
		i.fault("watermill-amqp: Transactional is set, and with it Publish returns the commit's result in the place of a message's error: " +
			"unset Config.Publish.Transactional, and set ConfirmDelivery")
	}
}

// gochannel checks Watermill's publisher in memory.
func (i *inspection) gochannel(publisher reflect.Value) {
	if is(field(publisher, "config", "BlockPublishUntilSubscriberAck"), false) {
		i.fault("gochannel: BlockPublishUntilSubscriberAck is not set, and without it Publish returns before anybody has the message: " +
			"set Config.BlockPublishUntilSubscriberAck")
	}
	f := field(publisher, "closing")
	if !f.IsValid() || !f.CanAddr() || f.Type() != reflect.TypeFor[chan struct{}]() {
		return
	}
	closing := *(*chan struct{})(f.Addr().UnsafePointer()) // set by its constructor, and never again
	if isClosed(closing) {
		i.fault("gochannel: it is closed: close it after the relay has ended")
	}
	i.closings = append(i.closings, closing)
}

func isClosed(closing <-chan struct{}) bool {
	select {
	case <-closing:
		return true
	default:
		return false
	}
}

// nameOf names a type with its package's path, which String does not.
func nameOf(t reflect.Type) string { return t.PkgPath() + "." + t.Name() }

// field follows names from v down, through pointers and interfaces. The result is not valid where a name is missing or a
// pointer is nil.
func field(v reflect.Value, names ...string) reflect.Value {
	for _, name := range names {
		for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return reflect.Value{}
		}
		v = v.FieldByName(name)
	}
	return v
}

// is reports whether v is there, a boolean, and want.
func is(v reflect.Value, want bool) bool { return v.Kind() == reflect.Bool && v.Bool() == want }
