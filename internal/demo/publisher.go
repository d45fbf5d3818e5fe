package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/lockstep-go/lockstep/broker/watermill"
)

var _ message.Publisher = (*publisher)(nil)

// publisher is a Watermill publisher for the demo's broker. The three services that publish for themselves use it
// directly, Lockstep's relay through broker/watermill. It returns nil only for a message that the broker has stored.
type publisher struct {
	url    string
	client *http.Client
}

func newPublisher(brokerURL string) *publisher {
	return &publisher{url: brokerURL, client: &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}}
}

func (p *publisher) Publish(topic string, messages ...*message.Message) error {
	for _, m := range messages {
		if err := p.publish(topic, m); err != nil {
			return err
		}
	}
	return nil
}

func (p *publisher) publish(topic string, m *message.Message) error {
	body, err := json.Marshal(event{ID: m.UUID, Key: m.Metadata.Get(watermill.KeyMetadata), Payload: m.Payload})
	if err != nil {
		return err
	}
	answer, err := p.client.Post(p.url+"/topics/"+url.PathEscape(topic), "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the broker answered %s", answer.Status)
	}
	return nil
}

func (p *publisher) Close() error {
	p.client.CloseIdleConnections()
	return nil
}
