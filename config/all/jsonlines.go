package all

import (
	"errors"
	"log/slog"
	"net/url"
	"os"

	"github.com/lockstep-go/lockstep/broker/jsonlines"
	"github.com/lockstep-go/lockstep/core"
)

func openStdout(u *url.URL, _ *slog.Logger) (core.Broker, error) {
	if u.Host != "" || u.Path != "" || u.Opaque != "" || u.RawQuery != "" {
		return nil, errors.New("is not stdout: alone, which is all there is to it")
	}
	return jsonlines.New(os.Stdout), nil
}

// fileBroker is the adapter, and what verify makes beside it.
type fileBroker struct {
	*jsonlines.Broker
	path string
}

func openFile(u *url.URL, _ *slog.Logger) (core.Broker, error) {
	at, err := path(u)
	if err != nil {
		return nil, err
	}
	b, err := jsonlines.Open(at)
	if err != nil {
		return nil, err
	}
	return fileBroker{b, at}, nil
}
