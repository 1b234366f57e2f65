"""The comparison of curricula or connectors: one table over several rows and several training seeds."""
