"""One thin file per process: each wires parts of `pipeline` together and holds no logic of its own."""
