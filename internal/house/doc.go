// Package house holds no code, only tests of the repository as a whole: which
// package may import which, what the core depends on, that every module is in
// the workspace, that the snippets in the documentation compile, and that its
// links lead somewhere. They need the go command and no network.
package house
