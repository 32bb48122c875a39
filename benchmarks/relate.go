package main

import "fmt"

// overStub is how the name of a case ends whose messages come from a stub.
const overStub = ", over a stub"

// serverBound is the part of its time that the raw loop over the stub needs of that on the
// server, below which it mostly waits for the server. In one process the server has the
// same processors, so that nothing of the system tells the two apart.
const serverBound = 0.5

// relate sets what is measured over a stub beside the same case on the server: how much
// of the raw loop's time there is the server's, and what the others add, as a part of it.
func relate(cases []Case) {
	for i := range cases {
		stub := &cases[i]
		for j := range cases {
			if cases[j].Name+overStub == stub.Name {
				relateCase(&cases[j], stub)
			}
		}
	}
}

func relateCase(server, stub *Case) {
	on, ok := server.row(rowRaw)
	alone, ok2 := stub.row(rowRaw)
	if !ok || !ok2 {
		return
	}
	part := alone.Time.Median / on.Time.Median
	text := fmt.Sprintf("over a stub the raw loop takes %s, %.0f %% of its time here", nanos(alone.Time.Median), 100*part)
	if part < serverBound {
		text = "server-bound: " + text
	}
	server.Notes = append(server.Notes, text)
	for i := range stub.Rows {
		r := &stub.Rows[i]
		if r.Added != nil {
			r.AddedShare = ptr(r.Added.Median / on.Time.Median)
		}
		if r.AddedCPU != nil {
			r.AddedCPUShare = ptr(r.AddedCPU.Median / on.Time.Median)
		}
	}
}
