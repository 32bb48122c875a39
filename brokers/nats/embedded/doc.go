// Package embedded runs a NATS server inside the process: the durable default on one
// machine, without anything to install. Later the program connects to servers of its
// own, and nothing else changes.
//
//	server, err := embedded.Start(embedded.Config{Dir: "data"})
//	…
//	nc, err := nats.Connect("", nats.InProcessServer(server))
//
// It is the real server, with JetStream in a folder. It opens no port unless
// [Config].Listen asks for one, no port for monitoring, and handles no signals.
//
// # What survives
//
// A publish to a stream with file storage that was confirmed is in the streams of the
// folder after
//
//   - [Server.Shutdown] and the regular end of the process: always;
//   - a process that was killed (kill -9) or panicked: always. The server writes a
//     message before it confirms it, and what was written the operating system has;
//   - a power failure, or an operating system that crashed: with [Config].SyncAlways
//     only. Without it the server leaves it to the operating system when a message
//     reaches the disk, and syncs every 2 minutes.
//
// Acknowledgements of a consumer are written ten times a second. After a crash, also
// with SyncAlways, those of the last moments may be missing: their messages are
// delivered again. Shutdown writes them all.
//
// Streams with memory storage survive nothing.
//
// # One server for a folder
//
// NATS itself does not notice two servers in one folder, which ruin it. [Start] locks
// the folder and answers [ErrInUse] to the second, in this process or another. The
// lock ends with the process, however that ends. It does not reach a nats-server that
// is started by hand, nor another machine where the folder is shared by a network. It
// works where flock does (Linux, macOS, the BSDs) and on Windows; elsewhere Start
// answers [errors.ErrUnsupported] unless [Config].Memory is set.
package embedded
