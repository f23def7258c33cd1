"""Commands that each machine of a run is started with: servers, hosts, workers and nodes, and their secrets."""
