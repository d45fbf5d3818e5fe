package all

import (
	"context"
	"fmt"
	"strings"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/config"
)

// maxAMQPMessage is what RabbitMQ 4 takes unless it is told otherwise, in bytes.
const maxAMQPMessage = 16 << 20

// ExamineTopics implements [config.TopicExaminer]. AMQP shows no bindings, and to find out by a message would be to send one.
func (besideAMQP) ExamineTopics(_ context.Context, topics []config.WaitingTopic) (found []config.Finding, err error) {
	var exchanges []string
	for _, t := range topics {
		if t.Name != amqp.DefaultExchange {
			exchanges = append(exchanges, t.Name)
		}
		if t.Largest > maxAMQPMessage {
			found = append(found, config.Finding{
				Warning: true,
				Problem: fmt.Sprintf("an event of %d bytes waits for exchange %s: RabbitMQ takes %d by default, and it may become a dead letter", t.Largest, t.Name, maxAMQPMessage),
				Cure:    "raise max_message_size in rabbitmq.conf, or send a reference to what is large",
			})
		}
	}
	if len(exchanges) > 0 {
		err = fmt.Errorf("whether a queue is bound to %s: AMQP does not show it; see `rabbitmqctl list_bindings source_name destination_name routing_key`", strings.Join(exchanges, ", "))
	}
	return found, err
}
