"""Frame memory: sealed slabs and the slot table that says who owns which slot."""
