// Package cli is the command line of a user's binary: [Main] in place of a call of
// [gostream.App.Run].
//
//	func main() { cli.Main(App()) }
//
// The binary then has the commands run, describe, check, asyncapi gen, publish and dead
// replay. Every flag can be given as an environment variable, too: --log-level as
// GOSTREAM_LOG_LEVEL. A flag beats the environment.
//
// The exit codes are 0 for success, 1 for a failure, 2 for a wrong use of the command line
// or a wrong app, with nothing done, and 130 where a signal ended a command before it was
// done. docs/cli.md in gostream's repository has all commands.
package cli
