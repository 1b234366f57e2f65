"""What is fast, by how much, and whether it is still right: each bench against a named baseline in the same run."""
