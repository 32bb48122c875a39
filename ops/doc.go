// Package ops has http.Handlers for those who operate an app: is it alive, is it ready,
// how are its subscriptions, pause one, resume it. Nothing of it is there unless it is
// mounted, and it opens no port: that is the program's.
//
//	h, err := ops.New(app)             // before the app starts
//	go http.ListenAndServe(":8081", h) // a port of its own
//	err = app.Run(ctx)
//
// The paths are /livez, /readyz, /subscriptions and, with [Control] alone,
// /subscriptions/{name}/pause and /subscriptions/{name}/resume. What they answer, by the
// state of the app:
//
//	           /livez   /readyz  /subscriptions  pause, resume
//	starting   200      503      503             503
//	running    200      200 (1)  200             200
//	draining   200 (2)  503      200             409
//	stopped    200      503      503             409
//
// (1) 503 while a subscription is down. (2) 503 where the drain is stuck: see
// [Handler.Livez].
//
// Answers are JSON, errors too: {"error": "a sentence", "state": "draining"}. Fields may
// be added in later versions.
package ops
