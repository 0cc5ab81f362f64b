package fleet

import (
	"context"
	"errors"
	"net/url"
	"sync"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// client is what is used of the library's clients.
type client struct {
	pipeline func() redis.Pipeliner
	close    func() error
	cluster  bool
}

// silent keeps the library's own lines out of the log: what is wrong comes as an error.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// silence is for all clients, and before the first one: the library reads the variable
// without a lock.
var silence = sync.OnceFunc(func() { redis.SetLogger(silent{}) })

// CheckURL returns what is wrong with the URL of a Redis. The error repeats no part of
// it.
func CheckURL(text string) error {
	c, err := open(text)
	if err == nil {
		_ = c.close()
	}
	return err
}

// open returns a client for a URL. It connects when it is first used, never through a
// proxy.
func open(text string) (*client, error) {
	silence()
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("it is not a URL")
	}
	query := u.Query()
	switch {
	case query.Get("master_name") != "":
		return openSentinel(text)
	case query.Has("addr"):
		return openCluster(text)
	}
	o, err := redis.ParseURL(text)
	if err != nil {
		return nil, errParameter
	}
	o.MaxRetries, o.ContextTimeoutEnabled, o.DisableIdentity = -1, true, true
	o.PoolSize, o.DialerRetries, o.DialTimeout = connections, 1, connectTime
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	c := redis.NewClient(o)
	return &client{c.Pipeline, c.Close, false}, nil
}

// errParameter does not repeat the library's error, which quotes parts of the URL.
var errParameter = errors.New("it has a path or parameter that the client library does not take: the path is the number of a database, and for the parameters see docs/fleet.md")

func openSentinel(text string) (*client, error) {
	o, err := redis.ParseFailoverURL(text)
	if err != nil {
		return nil, errParameter
	}
	if o.ReplicaOnly || o.RouteByLatency || o.RouteRandomly {
		return nil, errors.New("it asks for replicas: budgets are counted at the master")
	}
	o.MaxRetries, o.ContextTimeoutEnabled, o.DisableIdentity = -1, true, true
	o.PoolSize, o.DialerRetries, o.DialTimeout = connections, 1, connectTime
	c := redis.NewFailoverClient(o)
	return &client{c.Pipeline, c.Close, false}, nil
}

func openCluster(text string) (*client, error) {
	o, err := redis.ParseClusterURL(text)
	if err != nil {
		return nil, errParameter
	}
	if o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
		return nil, errors.New("it asks for replicas: budgets are counted at the masters")
	}
	o.MaxRetries, o.ContextTimeoutEnabled, o.DisableIdentity = -1, true, true
	o.PoolSize, o.DialerRetries, o.DialTimeout = connections, 1, connectTime
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	c := redis.NewClusterClient(o)
	return &client{c.Pipeline, c.Close, true}, nil
}
