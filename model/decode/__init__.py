"""Writing reports: an own forward pass of Llama, a loop that requests join and leave between steps, and drafts."""
