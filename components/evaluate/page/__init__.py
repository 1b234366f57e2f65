"""Self-contained pages: no script, nothing fetched, so that they open from a file and in Kubeflow's sandboxed frame."""
