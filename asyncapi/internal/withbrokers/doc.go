// Package withbrokers holds no code, only tests of documents of apps on NATS and Kafka. It
// is a module of its own, so that package asyncapi does not bring their clients along.
package withbrokers
