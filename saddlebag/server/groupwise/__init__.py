"""The groupwise prediction service: a state machine (`core`), its journal on disk, and the gRPC shell around both."""
