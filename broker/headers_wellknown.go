package broker

// The well-known headers. A broker maps them onto its native fields, both ways,
// where that is harmless. A native de-duplication id is not harmless: it is asked
// for through [OutgoingMessage].Options only.
const (
	// HeaderContentType is the payload's media type.
	HeaderContentType = "content-type"
	// HeaderCorrelationID ties the messages of one conversation together.
	HeaderCorrelationID = "correlation-id"
	// HeaderReplyTo is the name that a reply goes to.
	HeaderReplyTo = "reply-to"
	// HeaderMessageID identifies the message.
	HeaderMessageID = "message-id"
	// HeaderKey carries the partition key where the transport has none of its own.
	HeaderKey = "gostream-key"
)

// ContentType returns the payload's media type, "" where it is not said.
func (h Headers) ContentType() string { return h.Get(HeaderContentType) }

// WithContentType returns a copy with that media type; "" removes it.
func (h Headers) WithContentType(v string) Headers { return h.withOne(HeaderContentType, v) }

// CorrelationID returns the id of the conversation, "" for none.
func (h Headers) CorrelationID() string { return h.Get(HeaderCorrelationID) }

// WithCorrelationID returns a copy with that correlation id; "" removes it.
func (h Headers) WithCorrelationID(v string) Headers { return h.withOne(HeaderCorrelationID, v) }

// ReplyTo returns the name that a reply goes to, "" for none.
func (h Headers) ReplyTo() string { return h.Get(HeaderReplyTo) }

// WithReplyTo returns a copy with that reply-to; "" removes it.
func (h Headers) WithReplyTo(v string) Headers { return h.withOne(HeaderReplyTo, v) }

// MessageID returns the message's id, "" for none.
func (h Headers) MessageID() string { return h.Get(HeaderMessageID) }

// WithMessageID returns a copy with that message id; "" removes it.
func (h Headers) WithMessageID(v string) Headers { return h.withOne(HeaderMessageID, v) }

func (h Headers) withOne(key, value string) Headers {
	if value == "" {
		return h.Without(key)
	}
	return h.With(key, value)
}
