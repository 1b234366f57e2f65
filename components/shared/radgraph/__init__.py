"""RadGraph: the `radgraph` package made to work offline, its checkpoints, and its graphs as typed entities."""
