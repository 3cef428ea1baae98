"""The world outside the mesh as it may be touched: which addresses, in what sandbox, by what row of the operator's. Who acts or probes
decides; nothing here does."""
