// Package otelgostream gives a gostream app OpenTelemetry traces and metrics.
//
//	prom := otelgostream.PrometheusHandler()
//	otelgostream.Instrument(app, otelgostream.WithMeterProvider(prom.MeterProvider()))
//	http.Handle("/metrics", prom)
//
// [Instrument] adds a middleware, a publish middleware and an observer. Call it before
// the app's own [gostream.App.Use] and [gostream.App.UsePublish], so that the spans are
// around what these do.
//
// Spans and metrics follow the messaging conventions of OpenTelemetry, v1.43.0, which
// are still in development: their names may change with a later version of this package.
// All stand in names.go. [LogHandler] puts the ids of traces on log lines.
package otelgostream
