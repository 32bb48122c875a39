package cli_test

func child(string) {}
