"""A GitLab of our own for tests: a process with state, GitLab's REST API, real webhooks, and faults on demand."""
