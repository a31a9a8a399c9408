"""What `benches/load` is made of: rows, peers, server, client, wrk, measure, report. Linux only, no packages needed."""
