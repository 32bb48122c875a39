// Package kafka is the broker for Apache Kafka, on the client franz-go.
package kafka
