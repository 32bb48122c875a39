package brokertest

// For the tests in package brokertest_test.

// RunCheck runs one check by its full name and returns its error.
var RunCheck = runCheck

// RunAll runs all checks and returns the error of each by its full name.
var RunAll = runAll

// IsInapplicable reports whether the error of a check says that it had nothing to
// try, and why.
var IsInapplicable = isInapplicable
