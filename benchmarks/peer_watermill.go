package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/components/cqrs"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
)

// buffer is what the channels hold on their way: more than is ever in flight.
const buffer = 1024

// mill is a router on a GoChannel.
type mill struct {
	pubsub *gochannel.GoChannel
	router *message.Router
	uuid   func() string
}

func newMill(withMiddleware, uuids bool) (*mill, error) {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: timeout}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	if withMiddleware {
		router.AddMiddleware(
			middleware.CorrelationID,
			middleware.Retry{
				MaxRetries: retries, InitialInterval: retryFirst, MaxInterval: time.Minute, Multiplier: 2,
				Logger: watermill.NopLogger{},
			}.Middleware,
			middleware.Recoverer,
			middleware.Timeout(timeout),
		)
	}
	m := &mill{router: router, uuid: func() string { return "" }}
	m.pubsub = gochannel.NewGoChannel(gochannel.Config{OutputChannelBuffer: buffer}, watermill.NopLogger{})
	if uuids {
		m.uuid = watermill.NewUUID
	}
	return m, nil
}

// start runs the router until the rig is stopped.
func (m *mill) start(send func(i int) error) (*rig, error) { return m.run(send, m.pubsub.Close) }

// run runs the router until the rig is stopped, which calls closed.
func (m *mill) run(send func(i int) error, closed func() error) (*rig, error) {
	ended := make(chan error, 1)
	go func() { ended <- m.router.Run(context.Background()) }()
	select {
	case <-m.router.Running():
	case err := <-ended:
		return nil, errors.Join(errors.New("the router did not start"), err, closed())
	}
	return &rig{send: send, stop: func() error {
		return errors.Join(m.router.Close(), closed(), <-ended)
	}}, nil
}

// publish sends a payload.
func (m *mill) publish(payload []byte, correlated bool) error {
	msg := message.NewMessage(m.uuid(), payload)
	if correlated {
		middleware.SetCorrelationID(correlation, msg)
	}
	return m.pubsub.Publish("in", msg)
}

// watermillPeer is Watermill's router on its GoChannel; JSON as its examples do it.
func watermillPeer(w work, withMiddleware, uuids bool) func(probe, traffic) (*rig, error) {
	return func(p probe, t traffic) (*rig, error) {
		m, err := newMill(withMiddleware, uuids)
		if err != nil {
			return nil, err
		}
		send := func(i int) error {
			data, err := json.Marshal(t.order(i))
			if err != nil {
				return err
			}
			return m.publish(data, withMiddleware)
		}
		switch w {
		case noop:
			m.router.AddConsumerHandler("noop", "in", m.pubsub, func(msg *message.Message) error {
				p.raw(msg.Payload)
				return nil
			})
			send = func(i int) error { return m.publish(t.payload(i), withMiddleware) }
		case jsonIn:
			m.router.AddConsumerHandler("orders", "in", m.pubsub, func(msg *message.Message) error {
				var o Order
				if err := json.Unmarshal(msg.Payload, &o); err != nil {
					return err
				}
				p.order(o)
				return nil
			})
		case jsonReply:
			m.router.AddHandler("orders", "in", m.pubsub, "out", m.pubsub, func(msg *message.Message) ([]*message.Message, error) {
				var o Order
				if err := json.Unmarshal(msg.Payload, &o); err != nil {
					return nil, err
				}
				data, err := json.Marshal(confirm(o))
				if err != nil {
					return nil, err
				}
				return message.Messages{message.NewMessage(m.uuid(), data)}, nil
			})
			m.router.AddConsumerHandler("confirmations", "out", m.pubsub, func(msg *message.Message) error {
				var c Confirmation
				if err := json.Unmarshal(msg.Payload, &c); err != nil {
					return err
				}
				p.reply(c)
				return nil
			})
		}
		return m.start(send)
	}
}

// cqrsPeer is Watermill's CQRS component, an event bus and an event processor, on the
// same router and GoChannel. The handler publishes its reply on the bus.
func cqrsPeer(w work, withMiddleware bool) func(probe, traffic) (*rig, error) {
	return func(p probe, t traffic) (*rig, error) {
		m, err := newMill(withMiddleware, true)
		if err != nil {
			return nil, err
		}
		marshaler := cqrs.JSONMarshaler{GenerateName: cqrs.StructName}
		bus := cqrs.EventBusConfig{
			GeneratePublishTopic: func(p cqrs.GenerateEventPublishTopicParams) (string, error) { return p.EventName, nil },
			Marshaler:            marshaler,
			Logger:               watermill.NopLogger{},
		}
		if withMiddleware {
			bus.OnPublish = func(p cqrs.OnEventSendParams) error {
				middleware.SetCorrelationID(correlation, p.Message)
				return nil
			}
		}
		events, err := cqrs.NewEventBusWithConfig(m.pubsub, bus)
		if err != nil {
			return nil, err
		}
		processor, err := cqrs.NewEventProcessorWithConfig(m.router, cqrs.EventProcessorConfig{
			GenerateSubscribeTopic: func(p cqrs.EventProcessorGenerateSubscribeTopicParams) (string, error) { return p.EventName, nil },
			SubscriberConstructor: func(cqrs.EventProcessorSubscriberConstructorParams) (message.Subscriber, error) {
				return m.pubsub, nil
			},
			Marshaler: marshaler,
			Logger:    watermill.NopLogger{},
		})
		if err != nil {
			return nil, err
		}
		handlers := []cqrs.EventHandler{cqrs.NewEventHandler("orders", func(ctx context.Context, o *Order) error {
			if w == jsonIn {
				p.order(*o)
				return nil
			}
			return events.Publish(ctx, ptr(confirm(*o)))
		})}
		if w == jsonReply {
			handlers = append(handlers, cqrs.NewEventHandler("confirmations", func(_ context.Context, c *Confirmation) error {
				p.reply(*c)
				return nil
			}))
		}
		if err := processor.AddHandlers(handlers...); err != nil {
			return nil, err
		}
		return m.start(func(i int) error { return events.Publish(context.Background(), ptr(t.order(i))) })
	}
}
